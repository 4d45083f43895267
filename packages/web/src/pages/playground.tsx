import type { ChatAnswer, ChatMessage } from "@gfe/sdk";
import { type FormEvent, useId, useRef, useState } from "react";
import { client, queryClient } from "../client.ts";
import { useLive } from "../live.tsx";
import { Fault, Page, SignedIn } from "../parts/parts.tsx";

interface Turn extends ChatMessage {
  answer?: ChatAnswer;
}

export function Playground() {
  const models = useLive().market?.models ?? [];
  const [chosen, setChosen] = useState("");
  const [turns, setTurns] = useState<Turn[]>([]);
  const [streaming, setStreaming] = useState<string | null>(null);
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  const [modelId, promptId] = [useId(), useId()];
  const model = chosen || models[0]?.model || "";

  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const prompt = String(new FormData(form).get("prompt")).trim();
    if (prompt === "" || model === "") return;
    form.reset();
    const asked: Turn[] = [...turns, { role: "user", content: prompt }];
    setTurns(asked);
    setError(null);
    setStreaming("");
    stop.current = new AbortController();
    let text = "";
    let frame = 0;
    try {
      const answer = await client.chat({
        model,
        messages: asked.map(({ role, content }) => ({ role, content })),
        signal: stop.current.signal,
        onDelta({ content }) {
          text += content;
          // A frame at a time, however fast the tokens come.
          frame ||= requestAnimationFrame(() => {
            frame = 0;
            setStreaming(text);
          });
        },
      });
      setTurns([...asked, { role: "assistant", content: answer.content, answer }]);
    } catch (cause) {
      if (text !== "") setTurns([...asked, { role: "assistant", content: text }]);
      if (!stop.current.signal.aborted) setError(cause);
    } finally {
      cancelAnimationFrame(frame);
      setStreaming(null);
      void queryClient.invalidateQueries({ queryKey: ["me"] });
    }
  }

  return (
    <SignedIn>
      <Page title="Playground">
        <div className="space-y-1">
          <label htmlFor={modelId} className="text-sm text-text-2">
            Model
          </label>
          <select
            id={modelId}
            className="field"
            value={model}
            onChange={(event) => setChosen(event.target.value)}
          >
            {models.length === 0 && <option value="">No node is online</option>}
            {models.map((offer) => (
              <option key={offer.model} value={offer.model}>
                {offer.model}
                {offer.scripted ? " (scripted, no model)" : ""}
              </option>
            ))}
          </select>
        </div>
        <ol className="space-y-3" aria-live="polite" aria-busy={streaming !== null}>
          {turns.map((turn, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: turns are only appended
            <li key={i} className={`card whitespace-pre-wrap ${turn.role === "user" ? "bg-raised" : ""}`}>
              {turn.content}
              {turn.answer?.x_gfe && (
                <p className="mt-2 text-sm text-text-3" data-testid="cost">
                  {turn.answer.x_gfe.node_name} · {turn.answer.usage?.completion_tokens} tokens ·{" "}
                  {turn.answer.x_gfe.cost_credits} credits
                </p>
              )}
            </li>
          ))}
          {streaming !== null && <li className="card whitespace-pre-wrap">{streaming || "…"}</li>}
        </ol>
        <Fault error={error} />
        <form onSubmit={(event) => void send(event)} className="space-y-3">
          <label htmlFor={promptId} className="text-sm text-text-2">
            Your message
          </label>
          <textarea id={promptId} name="prompt" rows={3} className="field" required />
          {streaming === null ? (
            <button type="submit" className="button-gold" disabled={model === ""}>
              Send
            </button>
          ) : (
            <button type="button" className="button" onClick={() => stop.current?.abort()}>
              Stop
            </button>
          )}
        </form>
      </Page>
    </SignedIn>
  );
}
