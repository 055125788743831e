// What every script of a JavaScript client of MCP is made of; the same as seeing.py says.

import { randomUUID } from "node:crypto";

export const TOLD = JSON.parse(process.argv[2]);
export const URL_ = TOLD.url;
export const PACKAGES = `${process.argv[3]}/`;
export const WORDS = process.argv.slice(4);
export const CHAT = { prompt: "hello", model: "tiny", max_tokens: 12, temperature: 0 };
export const SUBMIT = { kind: "chat", prompt: "hello", model: "tiny", params_json: '{"max_tokens": 12}' };
export const TASK = "count the cats";
export const GIVE_UP_MS = 2_000;
const PATIENCE_MS = 60_000;

/** Return a mark that no other has, and arguments of a chat with it that takes longer than anybody waits. */
export function longChat() {
  const mark = randomUUID().replaceAll("-", "");
  return [mark, { prompt: `the cat ${mark}`, model: "tiny", max_tokens: 20_000, temperature: 0, wait_s: 45 }];
}

/** Take the looks, named functions, and print one JSON line for each. */
export async function look(looks) {
  for (const [check, one] of Object.entries(looks)) {
    let saw = null;
    let told = "";
    try {
      saw = await within(one());
    } catch (error) {
      const where = /scripts\/\w+\.mjs:\d+/.exec(error?.stack ?? "")?.[0] ?? "";
      told = `${error?.name}: ${String(error?.message).slice(0, 400)} (${where})`;
    }
    console.log(JSON.stringify({ check, ok: told === "", told, saw }));
  }
}

async function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no end of it")), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Return what a result of tools/call says. */
export const answer = (result) => ({
  failed: result.isError === true,
  texts: result.content.filter((block) => block.type === "text").map((block) => block.text),
  structured: result.structuredContent ?? null,
});

/** Return what is listed of tools. */
export const tools = (listed) =>
  listed.map(({ name, description, inputSchema }) => ({ name, description, parameters: inputSchema }));

/** Return the id of the job that an answer tells of: from its words, as a model would read it. */
export function jobId({ texts }) {
  const found = /job_id[=":\s]+([0-9a-f-]{36})/.exec(texts.join("\n"));
  if (!found) throw new Error(`no job_id in ${texts}`);
  return found[1];
}

/** Return the looks that any client can take, given how it lists, calls, reads and prompts. */
export function common({ listed, call, read, prompt }) {
  return {
    async tools() {
      const found = Object.fromEntries((await listed()).map((tool) => [tool.name, tool]));
      return { names: Object.keys(found).sort(), chat: found.llm_chat };
    },
    chat: () => call("llm_chat", CHAT),
    async job() {
      const submitted = await call("llm_submit", SUBMIT);
      return { submitted, finished: await call("llm_job_status", { job_id: jobId(submitted), wait_s: 30 }) };
    },
    async cancelled() {
      const prompt = `the cat ${longChat()[0]}`;
      const params_json = '{"max_tokens": 20000}';
      const submitted = await call("llm_submit", { kind: "chat", prompt, model: "tiny", params_json });
      return { submitted, cancelled: await call("llm_job_cancel", { job_id: jobId(submitted) }) };
    },
    async errors() {
      const missing = await call("llm_chat", { ...CHAT, model: "nope" });
      return { missing, wrong: await call("llm_chat", { ...CHAT, max_tokens: "many" }) };
    },
    ...(read && {
      async resources() {
        const chat = await call("llm_chat", CHAT);
        const result = await read(`llm://jobs/${jobId(chat)}/result`);
        return { models: await read("llm://models"), chat, result };
      },
    }),
    ...(prompt && {
      async prompts() {
        return { text: await prompt("delegate", { task: TASK }) };
      },
    }),
  };
}

/** Return how a call ended that should not be waited for. */
export async function gaveUp(call) {
  try {
    return `answered: ${JSON.stringify(await call)}`;
  } catch (error) {
    return `${error?.name}: ${String(error?.message).slice(0, 400)}`;
  }
}

/** Return the looks at what happens in a call, given a connected client of either SDK's, and how its call is made. */
export function watched(callTool) {
  return {
    async progress() {
      const told = [];
      const onprogress = ({ progress, message }) => told.push([progress, message]);
      const [, asked] = longChat();
      const result = await callTool({ name: "llm_chat", arguments: { ...asked, max_tokens: 800 } }, { onprogress });
      return { told, chat: answer(result) };
    },
    async left() {
      const [mark, asked] = longChat();
      const gone = new AbortController();
      setTimeout(() => gone.abort("gone"), GIVE_UP_MS);
      const call = callTool({ name: "llm_chat", arguments: asked }, { signal: gone.signal });
      return { mark, ended: await gaveUp(call) };
    },
    async late() {
      const [mark, asked] = longChat();
      const call = callTool({ name: "llm_chat", arguments: asked }, { timeout: GIVE_UP_MS });
      return { mark, ended: await gaveUp(call) };
    },
  };
}

/** Return how a connected client of either SDK's lists, calls, reads and prompts. */
export const means = (client, callTool) => ({
  listed: async () => tools((await client.listTools()).tools),
  call: async (name, args) => answer(await callTool({ name, arguments: args })),
  read: async (uri) => (await client.readResource({ uri })).contents.map((one) => one.text).join(""),
  prompt: async (name, args) =>
    (await client.getPrompt({ name, arguments: args })).messages.map((message) => message.content.text).join("\n"),
});
