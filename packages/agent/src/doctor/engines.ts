/** Engines and what they offer: as the running agent sees them, else looked at anew. */
import { counted } from "../control/status.ts";
import { detectEngines } from "../engines/detect.ts";
import { type Check, type DoctorContext, failed, ok, warning } from "./check.ts";

const NO_ENGINE =
  "start Ollama (ollama serve) or another engine, or `gfe up --model-path FILE.gguf`; one at an unusual address needs --engine URL";

export async function checkEngines({ host, status }: DoctorContext): Promise<Check[]> {
  const engines = status ? status.engines : await lookAtEngines(host);
  if (engines.length === 0) return [failed("engines", "no engine was found", NO_ENGINE)];
  return engines.map(({ kind, label, models, error }) => {
    const name = `${kind} at ${label}`;
    if (error !== null)
      return failed("engines", `${name}: ${error}`, "start it again, and look at its own log");
    return models === 0
      ? warning("engines", `${name} has no models`, "pull one, such as `ollama pull llama3.2:1b`")
      : ok("engines", `${name} with ${counted(models, "model")}`);
  });
}

async function lookAtEngines(host: DoctorContext["host"]) {
  const engines = await detectEngines(host);
  return Promise.all(
    engines.map(async (engine) => {
      const looked = await engine.models().then(
        ({ length }) => ({ models: length, error: null }),
        (error: unknown) => ({ models: 0, error: error instanceof Error ? error.message : String(error) }),
      );
      await engine.close?.();
      return { kind: engine.kind, label: engine.label, ...looked };
    }),
  );
}
