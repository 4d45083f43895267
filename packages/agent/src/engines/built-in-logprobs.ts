/**
 * A chat on the built-in engine with log-probabilities: token by token, for the library's chat tells none. They are
 * of the distribution that was sampled from; at temperature 0 that is the model's own.
 */
import type { ChoiceDelta } from "@gfe/protocol";
import type { LlamaContextSequence, SequenceEvaluateOptions, Token } from "node-llama-cpp";
import type { BuiltInModel } from "./built-in-model.ts";
import type { EngineSink } from "./engine.ts";
import { TextStops } from "./text-stops.ts";

type TokenLogprob = NonNullable<ChoiceDelta["logprobs"]>["content"][number];

export interface LogprobsRun {
  /** The whole prompt, template and all. */
  prompt: Token[];
  stops: string[];
  maxTokens: number;
  /** Alternatives to each token, likeliest first. */
  top: number;
  sampling: SequenceEvaluateOptions;
  /** `lastTokens`: how many of the tokens said last are penalised. */
  penalty: false | { lastTokens: number; penalty: number; presencePenalty: number; frequencyPenalty: number };
}

/** Rejects when `signal` is aborted. */
export async function speakWithLogprobs(
  { model }: Pick<BuiltInModel, "model">,
  sequence: LlamaContextSequence,
  run: LogprobsRun,
  sink: Pick<EngineSink, "choice" | "ready">,
  signal: AbortSignal,
): Promise<"stop" | "length"> {
  // What the sequence still holds of the prompt is kept; the last token is computed anew, to go on from it.
  await sequence.adaptStateToTokens(run.prompt.slice(0, -1), false);
  const rest = run.prompt.slice(sequence.nextTokenIndex);
  /** Tokens whose text was not said yet, each with where its text ends. */
  let waiting: { end: number; logprob: TokenLogprob }[] = [];
  let spokenTo = 0;
  let readTo = 0;
  const stops = new TextStops(run.stops, (content) => {
    spokenTo += content.length;
    const told = waiting.filter(({ end }) => end <= spokenTo).map(({ logprob }) => logprob);
    waiting = waiting.slice(told.length);
    sink.choice({ index: 0, content, logprobs: { content: told } });
  });
  const textOf = (token: Token, before: readonly Token[]) => model.detokenize([token], false, before);
  const said: Token[] = [];
  /** Tokens that share a code point, until it is whole. */
  let partial: Token[] = [];
  const metadata = { probabilities: true } as const;
  const { lastTokens = 0, ...penalty } = run.penalty || {};
  const options: SequenceEvaluateOptions = run.penalty
    ? { ...run.sampling, repeatPenalty: { ...penalty, punishTokens: () => said.slice(-lastTokens) } }
    : run.sampling;
  for await (const { token, probabilities } of sequence.evaluateWithMetadata(rest, metadata, options)) {
    signal.throwIfAborted();
    partial.push(token);
    const text = model.detokenize(partial, false, said);
    const isWhole = !text.endsWith("\ufffd");
    if (isWhole) readTo += text.length;
    const tell = (one: Token): Omit<TokenLogprob, "top_logprobs"> => ({
      token: textOf(one, said),
      logprob: logOf(probabilities.get(one)),
    });
    const top_logprobs = [...probabilities.keys()].slice(0, run.top).map(tell);
    waiting.push({ end: readTo + (isWhole ? 0 : 1), logprob: { ...tell(token), top_logprobs } });
    said.push(token);
    if (isWhole) {
      partial = [];
      if (stops.push(text)) return "stop";
    }
    if (said.length >= run.maxTokens) {
      stops.end();
      return "length";
    }
    const wait = sink.ready();
    if (wait) await wait;
  }
  signal.throwIfAborted();
  stops.end();
  return "stop";
}

/** JSON has no -∞: what cannot happen is as unlikely as OpenAI's least. */
const LEAST = -9999;
const logOf = (probability: number | undefined): number =>
  probability === undefined || probability <= 0 ? LEAST : Math.log(probability);
