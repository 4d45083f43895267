import type { ChoiceDelta } from "@gfe/protocol";
import type { EngineSink } from "../engines/engine.ts";

export interface Collected extends EngineSink {
  texts: string[];
  reasonings: string[];
  choices: ChoiceDelta[];
  vectors: string[];
}

/** A sink that keeps what an engine says. */
export function collect(): Collected {
  const texts: string[] = [];
  const reasonings: string[] = [];
  const choices: ChoiceDelta[] = [];
  const vectors: string[] = [];
  return {
    texts,
    reasonings,
    choices,
    vectors,
    text: (text) => void texts.push(text),
    reasoning: (text) => void reasonings.push(text),
    choice: (delta) => void choices.push(delta),
    embeddings: (more) => void vectors.push(...more),
    ready: () => undefined,
  };
}
