// The client of the MCP SDK of TypeScript, its second major version, as it is by default or choosing the era itself.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { common, look, means, PACKAGES, TOLD, URL_, watched, WORDS } from "./seeing.mjs";

const require = createRequire(PACKAGES);
const packaged = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Client, StreamableHTTPClientTransport } = await packaged("@modelcontextprotocol/client");
const [mode, way] = WORDS;

async function transport() {
  if (way === "http") return new StreamableHTTPClientTransport(new URL(URL_));
  const { StdioClientTransport } = await packaged("@modelcontextprotocol/client/stdio");
  return new StdioClientTransport({ ...TOLD.stdio, stderr: "ignore" });
}

const options = mode === "auto" ? { versionNegotiation: { mode: "auto" } } : {};
const client = new Client({ name: "clients", version: "1" }, options);
await client.connect(await transport());
const callTool = (params, options) => client.callTool(params, options);
const era = async () => ({ asked: mode, version: client.getNegotiatedProtocolVersion() });
const { tools, chat, job, cancelled, errors, resources, prompts } = common(means(client, callTool));
const { progress, left, late } = watched(callTool);
await look({ era, tools, chat, job, progress, left, late, cancelled, errors, resources, prompts });
await client.close();
