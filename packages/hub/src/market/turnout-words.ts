/** Turnout in a provider's words: what each reason means, and what would change it. Pure. */
import type { TurnoutRow } from "./turnout-store.ts";

export interface Told {
  words: string;
  /** What the provider can do; empty where there is nothing to do. */
  cure: string;
}

const times = (figure: number | null): string =>
  figure === null ? "" : ` (on average ${figure < 10 ? figure.toFixed(1) : Math.round(figure)} times)`;

const TOLD: Readonly<Record<string, (figure: number | null) => Told>> = {
  own_node: () => ({
    words: "the request was your own: nobody is paid for serving itself",
    cure: "",
  }),
  context: (figure) => ({
    words: `the request needs a longer context${figure === null ? "" : ` (${Math.ceil(figure)} tokens on average)`}`,
    cure: "Start the engine with a longer context (Ollama: num_ctx, llama.cpp: -c, vLLM: --max-model-len).",
  }),
  max_price: (figure) => ({
    words: `your price is above what the consumer pays at most${times(figure)}`,
    cure: "Lower the price: `gfe price`.",
  }),
  banned: () => ({ words: "the operator banned this node", cure: "Ask the operator of the hub." }),
  only: () => ({ words: "the consumer asked for other nodes only", cure: "" }),
  ignore: () => ({
    words: "the consumer asks to leave this node out",
    cure: "Read its disputes, if there are any.",
  }),
  order: () => ({ words: "the consumer prefers other nodes", cure: "" }),
  quantizations: () => ({
    words: "the consumer asks for another quantisation",
    cure: "Offer the quantisation that is wanted beside this one.",
  }),
  region: () => ({
    words: "the consumer asks for nodes of another region, or this node says none",
    cure: "Say where the machine stands: `gfe up --region`.",
  }),
  data_collection: () => ({
    words: "the consumer asks for nodes that say they keep nothing",
    cure: "If that is so, say it: `gfe up --data-policy none`.",
  }),
  min_reputation: () => ({
    words: "the consumer asks for a better reputation",
    cure: "The node's reputation says what would raise it.",
  }),
  breaker: () => ({
    words: "it failed several times in a row and rests for a while",
    cure: "Look at the engine: `gfe doctor`, and its log.",
  }),
  digest: () => ({
    words: "the name means another file of this model, which more trusted nodes offer",
    cure: "Pull the model anew, so that it is the same as the others'.",
  }),
  draining: () => ({ words: "the node was paused or about to leave", cure: "Resume it: `gfe resume`." }),
  busy: () => ({
    words: "every slot was taken",
    cure: "Offer more slots if the GPU has room: `gfe up --slots`, and parallel requests in the engine.",
  }),
  dearer: (figure) => ({
    words: `another node is cheaper for what you offer${times(figure)}`,
    cure: "Lower the price, or be faster: both count.",
  }),
  slower: (figure) => ({
    words: `another node answers sooner${times(figure)}`,
    cure: "Keep the model loaded, use the GPU for all layers, or lower the price to make up for it.",
  }),
  less_reliable: (figure) => ({
    words: `another node is more reliable or better reputed${times(figure)}`,
    cure: "Requests that succeed raise it by themselves; the node's reputation says what would help most.",
  }),
  newcomer: () => ({
    words: "it is new: newcomers get a small part of the requests until they are known",
    cure: "Stay connected: a few dozen answers are enough.",
  }),
  cache: () => ({ words: "the conversation went back to the node that has it in its cache", cure: "" }),
  chance: () => ({
    words: "another node is as good, and chance chose that one",
    cure: "A lower price or a faster engine turns chance into choice.",
  }),
};

/** What a reason means to the provider. */
export function tellReason({ code, figure }: Pick<TurnoutRow, "code" | "figure">): Told {
  if (code.startsWith("capability:")) {
    const what = code.slice("capability:".length).replaceAll("+", ", ");
    return {
      words: `the request needs ${what}, which this model or engine does not offer`,
      cure: `Offer a model that has ${what}.`,
    };
  }
  return TOLD[code]?.(figure) ?? { words: code, cure: "" };
}

/** For a model that nobody asked for in a day. */
export function tellNoDemand(mostAsked: readonly string[]): Told {
  return {
    words: "nobody asked for this model in the last day",
    cure:
      mostAsked.length > 0
        ? `Offer what is asked for: ${mostAsked.join(", ")}.`
        : "Nobody asked for any model: this hub has no consumers at the moment.",
  };
}
