/** The agent's side of the built-in engine's program: attempts go in, what it says of them comes out, checked. */
import { readLines } from "../body.ts";
import type { Child } from "../host.ts";
import { ENGINE_LIMITS } from "../limits.ts";
import { type LoadedFacts, readStatement, type ToProgram } from "./built-in-wire.ts";
import { type EngineAttempt, EngineGone, type EngineOutcome, type EngineSink, failed } from "./engine.ts";

export interface BuiltInSession {
  facts: LoadedFacts;
  /** Rejects with EngineGone where the program ends first. */
  run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome>;
}

interface Running {
  sink: EngineSink;
  /** Until the hub wants more again. */
  held: boolean;
  end: PromiseWithResolvers<EngineOutcome>;
}

/** All that a program says while it lives; it says little of an attempt, but there are many. */
const LIMITS = { lineBytes: ENGINE_LIMITS.lineBytes, streamBytes: Number.POSITIVE_INFINITY };

/** Resolves when the model is loaded; rejects with what is wrong with it. A program that breaks the rules is ended. */
export function openBuiltInSession(child: Child, log: (message: string) => void): Promise<BuiltInSession> {
  const opened = Promise.withResolvers<BuiltInSession>();
  const running = new Map<number, Running>();
  const encoder = new TextEncoder();
  const tell = (words: ToProgram) => child.write(encoder.encode(`${JSON.stringify(words)}\n`));
  let last = 0;

  function hear(line: string): void {
    const said = readStatement(line);
    if (said === null) throw new Error("it says what no engine says");
    if (!("type" in said)) {
      const one = running.get(said[0]);
      if (!one) return;
      if (said[2] === 1) one.sink.reasoning(said[1]);
      else one.sink.text(said[1]);
      return hold(said[0], one);
    }
    switch (said.type) {
      case "loaded":
        return opened.resolve({ facts: said.facts, run });
      case "unloadable":
        return opened.reject(new Error(said.message));
      case "log":
        // What has read a prompt could tell it.
        return last === 0 ? log(said.message) : undefined;
      case "choice": {
        const one = running.get(said.id);
        if (!one) return;
        one.sink.choice(said.delta);
        return hold(said.id, one);
      }
      case "embeddings":
        return running.get(said.id)?.sink.embeddings(said.vectors);
      case "ended":
        running.get(said.id)?.end.resolve(said.outcome);
        running.delete(said.id);
    }
  }

  /** Passes on that the hub wants no more for now. */
  function hold(id: number, one: Running): void {
    const ready = one.sink.ready();
    if (!ready || one.held) return;
    one.held = true;
    void tell({ type: "hold", id });
    void ready.then(() => {
      one.held = false;
      if (running.has(id)) void tell({ type: "go", id });
    });
  }

  async function run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome> {
    if (signal.aborted) return failed("cancelled", "cancelled");
    const id = ++last;
    const end = Promise.withResolvers<EngineOutcome>();
    running.set(id, { sink, held: false, end });
    const onAbort = () => void tell({ type: "abort", id });
    signal.addEventListener("abort", onAbort, { once: true });
    await tell({ type: "run", id, attempt });
    try {
      return await end.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      running.delete(id);
    }
  }

  async function listen(): Promise<void> {
    try {
      for await (const lines of readLines({ body: child.stdout }, LIMITS))
        for (const line of lines) hear(line);
    } catch (error) {
      opened.reject(error);
    } finally {
      child.kill();
      for (const { end } of running.values()) end.reject(new EngineGone("the built-in engine"));
      running.clear();
    }
  }
  void listen();
  return opened.promise;
}
