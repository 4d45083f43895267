/** `gfe up` on Node: the engines that only the full program has, traces, signals. */
import {
  AGENT_VERSION,
  createBuiltInEngine,
  createNodeProgram,
  createScriptedEngine,
  type Host,
  type Output,
  runUp,
  type UpOptions,
} from "@gfe/agent";
import { parseTracingSettings, startTracing, type Tracing } from "@gfe/tracing";
import { Failure } from "../failure.ts";
import { createLines } from "../lines.ts";
import { onStopSignals } from "../signals.ts";

interface FullOptions extends UpOptions {
  modelPath?: string;
}

export async function up(host: Host, options: FullOptions, out: Output): Promise<number> {
  const { scripted, modelPath } = options;
  const tracing = await traced();
  const line = createLines((text) => process.stdout.write(text));
  const status = await runUp(
    host,
    options,
    { ...out, line },
    {
      engines: [
        ...(scripted ? [createScriptedEngine(host)] : []),
        ...(modelPath ? [createBuiltInEngine({ host, modelPath })] : []),
      ],
      tracer: tracing?.tracer,
      onStopSignals,
      program: createNodeProgram(),
    },
  );
  await tracing?.close();
  return process.exit(status); // a native engine may keep threads
}

/** Where the environment asks for traces: to this node's owner, and nobody else. */
async function traced(): Promise<Tracing | null> {
  const parsed = parseTracingSettings(process.env);
  if (!parsed.ok)
    throw new Failure(parsed.problems.map(({ variable, message }) => `${variable} ${message}`).join("; "));
  return startTracing(parsed.settings, {
    ...{ name: "gfe-agent", version: AGENT_VERSION },
    onLost: (error) => console.error(`warning: traces are lost: ${error}`),
  });
}
