// The `openai` package of npm.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { all, cancel, ended, FIRM, LONG, near, raised, run, SERVER } from "./checking.mjs";

const OpenAI = createRequire(`${process.argv[3]}/`)("openai").default;
const client = new OpenAI({ baseURL: `${SERVER}/v1`, apiKey: "none", timeout: 60_000 });
const messages = [{ role: "user", content: "hello" }];
const parameters = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const add = { type: "function", function: { name: "add", description: "Add.", parameters } };
const animal = {
  type: "object",
  properties: { legs: { type: "integer" }, tame: { type: "boolean" } },
  required: ["legs", "tame"],
  additionalProperties: false,
};

async function chat() {
  const answer = await client.chat.completions.create({ model: "tiny", messages, max_tokens: 12, ...FIRM });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, "length");
  assert.equal(answer.usage.completion_tokens, 12);
}

async function stream() {
  const asked = { model: "tiny", messages, max_tokens: 30, ...FIRM };
  const whole = await client.chat.completions.create(asked);
  const options = { stream: true, stream_options: { include_usage: true } };
  const pieces = await all(await client.chat.completions.create({ ...asked, ...options }));
  const said = pieces.map((piece) => piece.choices[0]?.delta.content ?? "").join("");
  assert.equal(said, whole.choices[0].message.content);
  assert.ok(pieces.length > 2);
  assert.deepEqual(pieces.at(-1).usage, whole.usage);
}

async function tools() {
  const asked = { model: "caller", tools: [add], reasoning_effort: "none", max_tokens: 1, ...FIRM };
  const { choices, usage } = await client.chat.completions.create({ ...asked, messages });
  assert.equal(choices[0].finish_reason, "tool_calls");
  const [call] = choices[0].message.tool_calls;
  assert.equal(call.function.name, "add");
  assert.ok(Number.isInteger(JSON.parse(call.function.arguments).a));
  const streamed = await client.chat.completions.stream({ ...asked, messages }).finalChatCompletion();
  assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  const history = [...messages, choices[0].message, { role: "tool", tool_call_id: call.id, content: "3" }];
  const again = await client.chat.completions.create({ ...asked, messages: history });
  assert.ok(again.usage.prompt_tokens > usage.prompt_tokens);
}

async function schema() {
  const answer = await client.chat.completions.parse({
    model: "tiny",
    messages,
    response_format: { type: "json_schema", json_schema: { name: "animal", schema: animal, strict: true } },
    max_tokens: 300,
    temperature: 1,
    seed: 3,
  });
  const found = JSON.parse(answer.choices[0].message.content);
  assert.ok(Number.isInteger(found.legs));
  assert.equal(typeof found.tame, "boolean");
}

async function responses() {
  const asked = { model: "tiny", input: "hello", max_output_tokens: 16, temperature: 0 };
  const whole = await client.responses.create(asked);
  assert.ok(whole.output_text);
  const events = await all(await client.responses.create({ ...asked, stream: true }));
  const said = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
  assert.equal(said.join(""), whole.output_text);
}

async function embeddings() {
  const input = ["the cat", "the dog"];
  const packed = await client.embeddings.create({ model: "tiny-embed", input });
  const plain = await client.embeddings.create({ model: "tiny-embed", input, encoding_format: "float" });
  assert.ok(packed.data.every((one, place) => near(one.embedding, plain.data[place].embedding)));
  assert.ok(!near(plain.data[0].embedding, plain.data[1].embedding));
}

async function models() {
  const named = (await all(client.models.list())).map((model) => model.id);
  assert.ok(named.includes("tiny:latest"), `${named}`);
  assert.equal((await client.models.retrieve("tiny")).id, "tiny:latest");
}

async function cancelled() {
  const asked = client.chat.completions.create({ model: "tiny", messages, max_tokens: LONG, stream: true });
  const { data, response } = await asked.withResponse();
  const error = await raised(async () => {
    let id = response.headers.get("x-llm-mcp-job");
    for await (const _ of data) {
      if (id !== null) await cancel(id);
      id = null;
    }
  });
  assert.ok(error instanceof OpenAI.APIError, `${error}`);
  assert.equal(error.code, "cancelled");
}

async function left() {
  const asked = client.chat.completions.create({ model: "tiny", messages, max_tokens: 80, stream: true });
  const { data, response } = await asked.withResponse();
  for await (const _ of data) break;
  assert.equal(await ended(response.headers.get("x-llm-mcp-job")), "done");
}

async function errors() {
  const missing = await raised(() => client.chat.completions.create({ model: "nope", messages }));
  assert.ok(missing instanceof OpenAI.NotFoundError, `${missing}`);
  assert.deepEqual([missing.code, missing.param], ["model_not_found", "model"]);
  const bad = await raised(() => client.chat.completions.create({ model: "tiny", messages, n: 2 }));
  assert.ok(bad instanceof OpenAI.BadRequestError, `${bad}`);
  assert.equal(bad.param, "n");
}

await run(chat, stream, tools, schema, responses, embeddings, models, cancelled, left, errors);
