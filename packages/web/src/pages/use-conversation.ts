/** A conversation with a model: what was said, what is being said, and how it went wrong. */
import type { ChatAnswer, ChatMessage } from "@gfe/sdk";
import { useEffect, useRef, useState } from "react";
import { client } from "../client.ts";

export interface Turn extends ChatMessage {
  id: number;
  /** Of a whole answer: what it cost and who gave it. */
  answer?: ChatAnswer;
  /** Why an answer is not whole. */
  broken?: "stopped" | "failed";
}

export interface Conversation {
  turns: Turn[];
  /** The answer so far; null when none is coming. */
  streaming: string | null;
  error: unknown;
  /** Resolves with whether anything of an answer came. */
  ask(model: string, prompt: string): Promise<boolean>;
  stop(): void;
  clear(): void;
}

export function useConversation(): Conversation {
  const [turns, setTurns] = useState<Turn[]>([]);
  const [streaming, setStreaming] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []); // who leaves the page pays for no more

  async function ask(model: string, prompt: string): Promise<boolean> {
    const stop = new AbortController();
    running.current = stop;
    const asked: Turn[] = [...turns, { id: turns.length, role: "user", content: prompt }];
    const answered = (turn: Pick<Turn, "content" | "answer" | "broken">) =>
      setTurns([...asked, { id: asked.length, role: "assistant", ...turn }]);
    const shown = createFrameWriter(setStreaming);
    setTurns(asked);
    setError(null);
    setStreaming("");
    try {
      const messages = asked.map(({ role, content }) => ({ role, content }));
      const onDelta = ({ content }: { content: string }) => shown.add(content);
      const answer = await client.chat({ model, messages, signal: stop.signal, onDelta });
      answered({ content: answer.content, answer });
      return true;
    } catch (cause) {
      if (!stop.signal.aborted) setError(cause);
      if (shown.text() === "") setTurns(turns);
      else answered({ content: shown.text(), broken: stop.signal.aborted ? "stopped" : "failed" });
      return shown.text() !== "";
    } finally {
      shown.end();
      setStreaming(null);
      running.current = null;
    }
  }

  return {
    turns,
    streaming,
    error,
    ask,
    stop: () => running.current?.abort(),
    clear() {
      setTurns([]);
      setError(null);
    },
  };
}

/** Gathers text and shows it once a frame, however fast it comes. */
function createFrameWriter(show: (text: string) => void) {
  let text = "";
  let frame = 0;
  return {
    add(more: string) {
      text += more;
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        show(text);
      });
    },
    text: () => text,
    end: () => cancelAnimationFrame(frame),
  };
}
