/** `gfe up` on Node: the engines that only the full program has, traces, signals. */
import {
  AGENT_VERSION,
  createBuiltInEngine,
  createNodeProgram,
  createScriptedEngine,
  type Engine,
  type Host,
  inTurn,
  listModels,
  ModelProblem,
  modelNamed,
  type Output,
  runUp,
  type StartedOptions,
  startedEngines,
  type UpOptions,
} from "@gfe/agent";
import { parseTracingSettings, startTracing, type Tracing } from "@gfe/tracing";
import { Failure } from "../failure.ts";
import { createLines } from "../lines.ts";
import { onStopSignals } from "../signals.ts";

interface FullOptions extends UpOptions, StartedOptions {
  modelPath?: string;
  model: readonly string[];
}

export async function up(host: Host, options: FullOptions, out: Output): Promise<number> {
  const { scripted, modelPath } = options;
  const named = await Promise.all(options.model.map((name) => modelNamed(host, name))).catch(
    (error: unknown) => {
      throw error instanceof ModelProblem ? new Failure(error.message) : error;
    },
  );
  const models = [...(modelPath ? [modelPath] : []), ...named.map(({ path }) => path)];
  const started = await startedEngines(host, options, models.length > 0);
  if (started.type === "failed") throw new Failure(started.message);
  const builtIn = (paths: readonly string[]): Engine[] =>
    inTurn(paths.map((path) => createBuiltInEngine({ host, modelPath: path, sandbox: started.settings })));
  const tracing = await traced();
  const line = createLines((text) => process.stdout.write(text));
  const status = await runUp(
    host,
    options,
    { ...out, line },
    {
      engines: [...(scripted ? [createScriptedEngine(host)] : []), ...builtIn(models), ...started.engines],
      sandbox: started.sandbox,
      fallback: async () => builtIn((await listModels(host)).map(({ path }) => path)),
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
