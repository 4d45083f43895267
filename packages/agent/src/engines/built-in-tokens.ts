/**
 * An answer of the built-in engine token by token, for what the library's own chat and completion can't do: tell
 * log-probabilities, and go on behind a text without losing the space before its next word. The probabilities are of the
 * distribution that was sampled from; at temperature 0 that is the model's own.
 */
import type { ChoiceDelta } from "@gfe/protocol";
import type { LlamaContextSequence, SequenceEvaluateOptions, Token } from "node-llama-cpp";
import type { BuiltInModel } from "./built-in-model.ts";
import type { EngineSink } from "./engine.ts";
import { TextStops } from "./text-stops.ts";

type TokenLogprob = NonNullable<ChoiceDelta["logprobs"]>["content"][number];

export interface TokenRun {
  /** The whole prompt, template and all, and what was said of the answer. */
  prompt: Token[];
  /** Of the prompt, its last so many tokens are text that the answer goes on from. */
  behindTokens: number;
  stops: string[];
  maxTokens: number;
  /** Of the prompt, its last so many tokens are computed as they were said. */
  retraceTokens: number;
  /** Alternatives to tell with each token, likeliest first; null where no probabilities are asked for. */
  top: number | null;
  sampling: SequenceEvaluateOptions;
  /** `lastTokens`: how many of the tokens said last are penalised. */
  penalty: false | { lastTokens: number; penalty: number; presencePenalty: number; frequencyPenalty: number };
}

/** Rejects when `signal` is aborted. */
export async function speakByToken(
  { model }: Pick<BuiltInModel, "model">,
  sequence: LlamaContextSequence,
  run: TokenRun,
  sink: Pick<EngineSink, "text" | "choice" | "ready">,
  signal: AbortSignal,
): Promise<"stop" | "length"> {
  // What the sequence still holds of the prompt is kept; the last token is computed anew, to go on from it.
  await sequence.adaptStateToTokens(run.prompt.slice(0, -1), false);
  if (run.retraceTokens > 0) await retrace(sequence, run, signal);
  const rest = run.prompt.slice(sequence.nextTokenIndex);
  const voice = run.top === null ? plainVoice(sink) : logprobVoice(sink);
  const stops = new TextStops(run.stops, voice.say);
  const said: Token[] = run.prompt.slice(run.prompt.length - run.behindTokens);
  // Behind other tokens, a token's text has the space before its word.
  const textOf = (tokens: Token[]) => model.detokenize(tokens, false, said);
  /** Tokens that share a code point, until it is whole. */
  let partial: Token[] = [];
  const { lastTokens = 0, ...penalty } = run.penalty || {};
  const options: SequenceEvaluateOptions = run.penalty
    ? { ...run.sampling, repeatPenalty: { ...penalty, punishTokens: () => said.slice(-lastTokens) } }
    : run.sampling;
  const answer = sequence.evaluateWithMetadata(rest, { probabilities: run.top !== null }, options);
  let left = run.maxTokens;
  for await (const { token, probabilities } of answer as AsyncIterable<Said>) {
    signal.throwIfAborted();
    partial.push(token);
    const text = textOf(partial);
    const isWhole = !text.endsWith("\ufffd");
    if (probabilities) {
      const tell = (one: Token) => ({ token: textOf([one]), logprob: logOf(probabilities.get(one)) });
      const top_logprobs = [...probabilities.keys()].slice(0, run.top ?? 0).map(tell);
      voice.read(isWhole ? text.length : 0, { ...tell(token), top_logprobs });
    }
    said.push(token);
    if (isWhole) {
      partial = [];
      if (stops.push(text)) return "stop";
    }
    if (--left === 0) {
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

/** How long the beginning of an answer may take to be computed as it was said. */
const RETRACE_MS_MAX = 1_000;

/**
 * Computes what was said as who said it did: token by token. In one batch sums are rounded otherwise, and where two
 * tokens are about equally likely the answer would go on with another one. What time does not allow for is computed
 * in one batch after all.
 */
async function retrace(sequence: LlamaContextSequence, run: TokenRun, signal: AbortSignal): Promise<void> {
  const begin = run.prompt.length - run.retraceTokens;
  const prompt = run.prompt.slice(sequence.nextTokenIndex, begin);
  if (prompt.length > 0) await sequence.evaluateWithoutGeneratingNewTokens(prompt);
  const deadlineMs = performance.now() + RETRACE_MS_MAX;
  while (sequence.nextTokenIndex < run.prompt.length - 1 && performance.now() < deadlineMs) {
    signal.throwIfAborted();
    await sequence.evaluateWithoutGeneratingNewTokens([run.prompt[sequence.nextTokenIndex]!]);
  }
}

interface Said {
  token: Token;
  probabilities?: Map<Token, number>;
}

interface Voice {
  /** A token was read, which makes so many more characters whole. */
  read(length: number, logprob: TokenLogprob): void;
  say(text: string): void;
}

const plainVoice = (sink: Pick<EngineSink, "text">): Voice => ({ read() {}, say: (text) => sink.text(text) });

/** Each token is told with the piece of text that it ends in. */
function logprobVoice(sink: Pick<EngineSink, "choice">): Voice {
  /** Tokens whose text was not said yet, each with where its text ends. */
  let waiting: { end: number; logprob: TokenLogprob }[] = [];
  let spokenTo = 0;
  let readTo = 0;
  return {
    read(length, logprob) {
      readTo += length;
      waiting.push({ end: readTo + (length === 0 ? 1 : 0), logprob });
    },
    say(content) {
      spokenTo += content.length;
      const told = waiting.filter(({ end }) => end <= spokenTo).map(({ logprob }) => logprob);
      waiting = waiting.slice(told.length);
      sink.choice({ index: 0, content, logprobs: { content: told } });
    },
  };
}

/** JSON has no -∞: what cannot happen is as unlikely as OpenAI's least. */
const LEAST = -9999;
const logOf = (probability: number | undefined): number =>
  probability === undefined || probability <= 0 ? LEAST : Math.log(probability);
