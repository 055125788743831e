// The command line of the MCP Inspector, a command for each look, in either era of the protocol.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { answer, common, jobId, look, PACKAGES, tools, TOLD, URL_, WORDS } from "./seeing.mjs";

const [era, way] = WORDS;
const program = join(PACKAGES, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");

/** Return what a command printed and its code. */
function command(...words) {
  const where = way === "http" ? [URL_] : [TOLD.stdio.command, ...TOLD.stdio.args];
  const environment = way === "http" ? [] : Object.entries(TOLD.stdio.env).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  const all = [program, "--cli", ...environment, ...where, "--protocol-era", era, ...words];
  return new Promise((resolve) => {
    execFile(process.execPath, all, { timeout: 50_000 }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr }));
  });
}

async function said(...words) {
  const { code, stdout, stderr } = await command(...words);
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`${words.join(" ")}: ended with ${code}: ${stdout.slice(-200)} ${stderr.slice(-200)}`);
  }
}

// A value that reads as JSON is taken for it: such a text is told in quotes.
const readsAsJson = (text) => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};
const word = (value) => (typeof value !== "string" || readsAsJson(value) ? JSON.stringify(value) : value);
const given = (args) => Object.entries(args).flatMap(([name, value]) => ["--tool-arg", `${name}=${word(value)}`]);

const looks = common({
  listed: async () => tools((await said("--method", "tools/list")).tools),
  call: async (name, args) => answer(await said("--method", "tools/call", "--tool-name", name, ...given(args))),
  read: async (uri) => (await said("--method", "resources/read", "--uri", uri)).contents.map((one) => one.text).join(""),
  prompt: async (name, args) => {
    const words = Object.entries(args).flatMap(([key, value]) => ["--prompt-args", `${key}=${value}`]);
    return (await said("--method", "prompts/get", "--prompt-name", name, ...words)).messages[0].content.text;
  },
});

/** What its strict reading of the listed tools complains of. */
async function strict() {
  const { code, stdout, stderr } = await command("--method", "tools/list", "--strict");
  return { code, told: stderr, listed: JSON.parse(stdout).tools.length };
}

/** An answer that it asked after as a task, if the era has tasks; then the task itself, asked for by its id. */
async function task() {
  const chat = await looks.chat();
  const { task: found } = await said("--method", "tasks/get", "--task-id", jobId(chat));
  return { task_id: found.taskId, told: [found.status], chat };
}

const { tools: listed, chat, job, cancelled, errors, resources, prompts } = looks;
await look({ tools: listed, strict, chat, job, ...(era === "modern" && { task }), cancelled, errors, resources, prompts });
