/**
 * An answer as a row of blocks (reasoning, text, a tool call), each whole before the next begins: what Anthropic's and
 * OpenAI's Responses dialects tell. Engines may mix the pieces of calls; a piece of another block waits while the call
 * that is being told has no whole arguments yet.
 *
 *   (none) ─piece─► open ─piece of it─► open ─piece of another─► closed, the other opens
 *                     └── a call without whole arguments, piece of another ──► that piece waits ──► told later, in order
 */
import { type ChoiceDelta, newId } from "@gfe/protocol";
import type { Gatherer } from "./answer.ts";
import { objectOf } from "./tool-arguments.ts";

export type Logprobs = NonNullable<ChoiceDelta["logprobs"]>["content"];

export interface Block {
  type: "reasoning" | "text" | "call";
  /** All that was said of it so far; a call's arguments. */
  text: string;
  /** Of calls only. */
  id: string;
  name: string;
  logprobs: Logprobs;
}

export interface BlockListener {
  opened(block: Block, index: number): void;
  said(block: Block, index: number, piece: string, logprobs: Logprobs): void;
  closed(block: Block, index: number): void;
}

interface Piece {
  /** The index of a call, in the engine's count. */
  of: "reasoning" | "text" | number;
  id?: string | undefined;
  name?: string | undefined;
  text: string;
  logprobs?: Logprobs;
}

/** Takes an answer's deltas and tells of blocks. */
export class Blocks {
  readonly #listener: BlockListener;
  readonly #said: Block[] = [];
  readonly #calls = new Set<number>();
  #open: { of: Piece["of"]; block: Block } | null = null;
  #waiting: Piece[] = [];

  constructor(listener: BlockListener) {
    this.#listener = listener;
  }

  /** All blocks so far; the last may still be open. */
  get all(): readonly Block[] {
    return this.#said;
  }

  text(text: string, logprobs: Logprobs = []): void {
    if (text !== "" || logprobs.length > 0) this.#take({ of: "text", text, logprobs });
  }

  reasoning(text: string): void {
    if (text !== "") this.#take({ of: "reasoning", text });
  }

  /** Choices but the first were not asked for. */
  choice({ index, content = "", reasoning = "", tool_calls: calls = [], logprobs }: ChoiceDelta): void {
    if (index !== 0) return;
    this.reasoning(reasoning);
    this.text(content, logprobs?.content);
    for (const { index: of, id, function: given } of calls)
      this.#take({ of, id, name: given?.name, text: given?.arguments ?? "" });
  }

  /** No more comes: what waited is told, and the last block ends. */
  end(): void {
    while (this.#open) {
      this.#close();
      this.#retake();
    }
  }

  #take(piece: Piece): void {
    if (this.#open?.of === piece.of) {
      this.#say(piece);
      if (this.#waiting.length > 0 && this.#isWhole()) this.#retake();
      return;
    }
    if (this.#waiting.length > 0 || (this.#open && !this.#isWhole())) {
      this.#waiting.push(piece);
      return;
    }
    if (typeof piece.of === "number") {
      // Its arguments were whole: what an engine still adds to them would only spoil them.
      if (this.#calls.has(piece.of)) return;
      this.#calls.add(piece.of);
    }
    this.#close();
    this.#begin(piece);
  }

  #retake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const piece of waiting) this.#take(piece);
  }

  /** Text may end at any time, a call with its arguments. */
  #isWhole(): boolean {
    if (this.#open?.block.type !== "call") return true;
    const { text } = this.#open.block;
    return text.trimEnd().endsWith("}") && objectOf(text) !== null;
  }

  #begin(piece: Piece): void {
    const type = typeof piece.of === "number" ? "call" : piece.of;
    const id = type === "call" ? piece.id || newId("call") : "";
    const block: Block = { type, text: "", id, name: piece.name ?? "", logprobs: [] };
    this.#said.push(block);
    this.#open = { of: piece.of, block };
    this.#listener.opened(block, this.#said.length - 1);
    this.#say(piece);
  }

  #say({ text, logprobs = [] }: Piece): void {
    const { block } = this.#open!;
    if (text === "" && logprobs.length === 0) return;
    block.text += text;
    block.logprobs.push(...logprobs);
    this.#listener.said(block, this.#said.length - 1, text, logprobs);
  }

  #close(): void {
    if (!this.#open) return;
    const { block } = this.#open;
    this.#open = null;
    this.#listener.closed(block, this.#said.length - 1);
  }
}

/** The blocks of an answer that was gathered whole: reasoning, text, calls. */
export function blocksOf({ first }: Gatherer): Block[] {
  const { reasoning, content, toolCalls, logprobs } = first;
  const blank = { id: "", name: "", logprobs: [] };
  const blocks: Block[] = [];
  if (reasoning !== "") blocks.push({ ...blank, type: "reasoning", text: reasoning });
  if (content !== "") blocks.push({ ...blank, type: "text", text: content, logprobs });
  for (const { id, function: called } of toolCalls.filter(Boolean))
    blocks.push({
      ...blank,
      type: "call",
      text: called.arguments,
      id: id || newId("call"),
      name: called.name,
    });
  return blocks;
}
