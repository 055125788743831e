// The command line of the MCP Inspector, a command for each look, in either era of the protocol.

import { execFile } from "node:child_process";
import { createServer, request as requestOf } from "node:http";
import { join } from "node:path";
import { answer, common, look, PACKAGES, tools, TOLD, URL_, WORDS } from "./seeing.mjs";

const [era, way] = WORDS;
const program = join(PACKAGES, "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");

const environment = Object.entries(TOLD.stdio.env).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
const given = way === "http" ? [URL_] : [...environment, TOLD.stdio.command, ...TOLD.stdio.args];
let where = given;

/** Return what a command printed and its code. */
function command(...words) {
  const all = [program, "--cli", ...where, "--protocol-era", era, ...words];
  return new Promise((resolve) => {
    execFile(process.execPath, all, { timeout: 50_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, stdout, stderr });
    });
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

const calling = (name, args) => ["--method", "tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(args)];

const looks = common({
  listed: async () => tools((await said("--method", "tools/list")).tools),
  call: async (name, args) => answer(await said(...calling(name, args))),
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

/** Return the statuses of tasks, which jobs do not have, in a piece of an answer. */
const statuses = (piece) => [...piece.matchAll(/"status": ?"(working|completed|failed|cancelled|input_required)"/g)].map((one) => one[1]);

/** An answer that it asked after as a task: what went over the wire tells. */
async function task() {
  const asked = [];
  const told = [];
  const relay = createServer((request, response) => {
    const { "mcp-method": method, "mcp-name": name } = request.headers;
    const headers = { ...request.headers, host: new URL(URL_).host };
    const onward = requestOf(URL_, { method: request.method, headers }, (found) => {
      response.writeHead(found.statusCode, found.headers);
      found.pipe(response);
      if (method !== "tasks/get") return;
      asked.push(name);
      found.setEncoding("utf8").on("data", (piece) => told.push(...statuses(piece)));
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy()); // whoever leaves here leaves there
    request.pipe(onward);
  });
  await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve));
  try {
    where = [`http://127.0.0.1:${relay.address().port}/mcp`];
    const chat = await looks.chat();
    return { task_id: asked.at(-1) ?? "", told, chat };
  } finally {
    where = given;
    relay.close();
    relay.closeAllConnections();
  }
}

const { tools: listed, chat, job, cancelled, errors, resources, prompts } = looks;
await look({ tools: listed, strict, chat, job, ...(era === "modern" && way === "http" && { task }), cancelled, errors, resources, prompts });
