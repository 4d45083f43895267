/** The slim executable's program: the agent, without an engine of its own, on the small native host. */

import "./install.ts";
import { type AgentEvent, startAgent } from "../agent.ts";
import { parseHubAddress } from "../hub-address.ts";
import { createHubRecords } from "../hub-records.ts";
import { AGENT_VERSION } from "../version.ts";
import { parseArguments } from "./arguments.ts";
import { native } from "./install.ts";
import { createSlimHost } from "./slim-host.ts";

const say = (text: string) => native.print(1, `${text}\n`);

async function up(args: readonly string[]): Promise<number> {
  const options = parseArguments(args);
  const host = createSlimHost(native, {
    log: { info() {}, warn: (_fields, message) => native.print(2, `warning: ${message}\n`) },
    ...(options.configDir ? { configDir: options.configDir, stateDir: options.configDir } : {}),
  });
  const hubUrl = options.hub ?? native.env.GFE_HUB ?? "http://127.0.0.1:8080";
  const token =
    options.token ??
    native.env.GFE_AGENT_TOKEN ??
    (await createHubRecords(host).get(parseHubAddress(hubUrl).origin)).agentToken;
  if (!token) throw new Error("an agent token is needed: --token, or GFE_AGENT_TOKEN");
  const stopping = new AbortController();
  let stop = () => stopping.abort(new Error("stopped"));
  native.onStop(() => stop());
  const agent = await startAgent({
    host,
    hubUrl,
    token,
    detect: { urls: options.engine, ...(options.detect ? {} : { ports: [] }) },
    ...(options.name ? { name: options.name } : {}),
    signal: stopping.signal,
    onEvent: (event: AgentEvent) => say(JSON.stringify(event)),
  });
  stop = () => {
    stop = () => void agent.stop();
    void agent.drain();
  };
  const end = await agent.done;
  if (end.type === "fault") throw end.error;
  return 0;
}

async function main([command, ...args]: readonly string[]): Promise<number> {
  if (command === "--version" || command === "-V") {
    say(AGENT_VERSION);
    return 0;
  }
  if (command === "up") return up(args);
  native.print(2, "usage: gfe-agent-slim up --hub URL --token TOKEN\n");
  return 1;
}

main(native.args).then(
  (code) => native.exit(code),
  (error: unknown) => {
    native.print(2, `gfe: ${error instanceof Error ? error.message : String(error)}\n`);
    native.exit(1);
  },
);
