/** A GGUF file in memory: what it is, and the sequences that compute with it. */
import type { Capability } from "@gfe/protocol";
import type {
  ChatWrapper,
  GgufFileInfo,
  Llama,
  LlamaContextSequence,
  LlamaEmbeddingContext,
  LlamaModel,
} from "node-llama-cpp";
import type { LoadedFacts, ModelToLoad } from "./built-in-wire.ts";
import { loadingWords, NOT_INSTALLED } from "./built-in-words.ts";
import type { Compute } from "./engine.ts";

type Library = typeof import("node-llama-cpp");

const CONTEXT_DEFAULT = 8192;
/** Below this size one thread beats two: handing over costs more than the sums (measured 20 to 200 times). */
const TINY_MODEL_BYTES = 64 * 1024 * 1024;

export interface BuiltInModel {
  facts: LoadedFacts;
  library: Library;
  llama: Llama;
  model: LlamaModel;
  chatWrapper: ChatWrapper;
  /** Tokens that one sequence holds. */
  contextSize: number;
  /** A free sequence; waits where none is. Give it back with `release`. */
  acquire(signal: AbortSignal): Promise<LlamaContextSequence>;
  release(sequence: LlamaContextSequence): void;
  embeddingContext(): Promise<LlamaEmbeddingContext>;
  dispose(): Promise<void>;
}

async function importLibrary(): Promise<Library> {
  try {
    return await import("node-llama-cpp");
  } catch (cause) {
    throw new Error(NOT_INSTALLED, { cause });
  }
}

/** Rejects with what the library says of a file that it can't load. */
export async function loadBuiltInModel(
  options: ModelToLoad,
  log: (message: string) => void,
): Promise<BuiltInModel> {
  const { modelPath, slots } = options;
  const library = await importLibrary();
  const isTiny = options.sizeBytes < TINY_MODEL_BYTES;
  const threads = options.threads ?? (isTiny ? 1 : undefined);
  const llama = await library.getLlama({
    gpu: options.gpu === false || isTiny ? false : "auto",
    build: "never",
    skipDownload: true,
    progressLogs: false,
    logLevel: library.LlamaLogLevel.error,
    logger: (_level, message) => log(message.trim()),
  });
  try {
    const model = await llama.loadModel({ modelPath });
    const contextMax = Math.min(model.trainContextSize, options.contextLengthMax ?? CONTEXT_DEFAULT);
    const context = await model.createContext({
      sequences: slots,
      contextSize: { max: contextMax },
      ...(threads === undefined ? {} : { threads }),
    });
    const contextSize = Math.min(context.contextSize, contextMax);
    const chatWrapper = wrapperOf(library, model);
    const facts: LoadedFacts = {
      contextLength: contextSize,
      capabilities: capabilitiesOf(
        model.fileInfo,
        options.embeddings === true,
        chatWrapper.settings.segments?.thought !== undefined,
      ),
      ...measuresOf(library, model.fileInfo),
      compute: await computeOf(llama, model),
    };
    let embedding: Promise<LlamaEmbeddingContext> | undefined;
    return {
      facts,
      library,
      llama,
      model,
      chatWrapper,
      contextSize,
      ...poolOf(Array.from({ length: slots }, () => context.getSequence())),
      embeddingContext() {
        embedding ??= model.createEmbeddingContext({
          contextSize: { max: contextMax },
          ...(threads === undefined ? {} : { threads }),
        });
        return embedding;
      },
      dispose: () => llama.dispose(),
    };
  } catch (error) {
    const words = loadingWords(error, { path: modelPath, bytes: options.sizeBytes, slots });
    await llama.dispose();
    throw words === null ? error : new Error(words, { cause: error });
  }
}

/** What the library chose by itself, and what that takes. */
async function computeOf(llama: Llama, model: LlamaModel): Promise<Compute> {
  const { gpuVram, cpuRam } = await llama.getLlamaMemoryUsage();
  return {
    device: llama.gpu || "cpu",
    gpuLayers: model.gpuLayers,
    layers: model.fileInsights.totalLayers,
    gpuMemoryBytes: gpuVram,
    memoryBytes: cpuRam,
  };
}

/** The model's own template; ChatML where it has none, as other engines do. */
function wrapperOf(library: Library, model: LlamaModel): ChatWrapper {
  return model.fileInfo.metadata.tokenizer?.chat_template
    ? library.resolveChatWrapper(model)
    : new library.ChatMLChatWrapper();
}

/** Log-probabilities come token by token, where thoughts could not be told from the answer; a prefix tells none of them. */
function capabilitiesOf(info: GgufFileInfo, embeddings: boolean, thinks: boolean): Capability[] {
  const { architecture } = info.metadata.general;
  const own = (info.metadata as unknown as Record<string, Record<string, unknown> | undefined>)[architecture];
  // A pooling type is what makes a model one for vectors.
  if (own?.pooling_type !== undefined && own.pooling_type !== 0) return ["embedding"];
  const spoken: Capability[] = ["chat", "completion", "json_mode", "json_schema", "seed"];
  if (!thinks) spoken.push("logprobs", "continuation");
  return embeddings ? [...spoken, "embedding"] : spoken;
}

function measuresOf(
  { GgufFileType, GgmlType }: Library,
  { metadata, fullTensorInfo }: GgufFileInfo,
): Pick<LoadedFacts, "quantisation" | "parameters"> {
  const told = metadata.general.file_type;
  const sizes = new Map<string, number>();
  let count = 0;
  for (const tensor of fullTensorInfo ?? []) {
    const elements = tensor.dimensions.reduce<number>((product, size) => product * Number(size), 1);
    const type = GgmlType[tensor.ggmlType] ?? "unknown";
    sizes.set(type, (sizes.get(type) ?? 0) + elements);
    count += elements;
  }
  const dominant = [...sizes].toSorted((a, b) => b[1] - a[1])[0]?.[0];
  const quantisation = told === undefined ? dominant : GgufFileType[told]?.replace(/^(ALL|MOSTLY)_/, "");
  const label = metadata.general.size_label;
  const parameters = typeof label === "string" && label !== "" ? label : shortCount(count);
  return { ...(quantisation ? { quantisation } : {}), ...(parameters ? { parameters } : {}) };
}

/** 7_241_732_096 → "7.2B"; "" for none. */
function shortCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1).replace(/\.0$/, "")}B`;
  if (count >= 1e6) return `${Math.round(count / 1e6)}M`;
  return count === 0 ? "" : `${Math.round(count / 1e3)}K`;
}

/** Sequences that are free, and who waits for one. */
function poolOf(free: LlamaContextSequence[]): Pick<BuiltInModel, "acquire" | "release"> {
  const waiting: ((sequence: LlamaContextSequence) => void)[] = [];
  return {
    acquire(signal) {
      const sequence = free.pop();
      if (sequence) return Promise.resolve(sequence);
      return new Promise((resolve, reject) => {
        const onAbort = () => {
          waiting.splice(waiting.indexOf(turn), 1);
          reject(signal.reason);
        };
        const turn = (given: LlamaContextSequence) => {
          signal.removeEventListener("abort", onAbort);
          resolve(given);
        };
        waiting.push(turn);
        signal.addEventListener("abort", onAbort, { once: true });
      });
    },
    release(sequence) {
      const next = waiting.shift();
      if (next) next(sequence);
      else free.push(sequence);
    },
  };
}
