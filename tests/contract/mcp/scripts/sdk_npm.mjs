// The MCP SDK of TypeScript, its first major version: by HTTP, by stdio, or by the bridge `mcp-remote`.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { common, look, means, PACKAGES, TOLD, URL_, watched, WORDS } from "./seeing.mjs";

const require = createRequire(PACKAGES);
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");

function transport(way) {
  if (way === "http") return new StreamableHTTPClientTransport(new URL(URL_));
  if (way === "stdio") return new StdioClientTransport({ ...TOLD.stdio, stderr: "ignore" });
  const manifest = join(PACKAGES, "node_modules", "mcp-remote", "package.json");
  const program = join(dirname(manifest), require(manifest).bin["mcp-remote"]);
  return new StdioClientTransport({ command: process.execPath, args: [program, URL_, "--transport", "http-only"], stderr: "ignore" });
}

const client = new Client({ name: "clients", version: "1" });
await client.connect(transport(WORDS[0]));
const callTool = (params, options) => client.callTool(params, undefined, options);
const { tools, chat, job, cancelled, errors, resources, prompts } = common(means(client, callTool));
const { progress, left, late } = watched(callTool);
await look({ tools, chat, job, progress, left, late, cancelled, errors, resources, prompts });
await client.close();
