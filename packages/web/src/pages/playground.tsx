import { type FormEvent, type KeyboardEvent, useId, useState } from "react";
import { credits } from "../client.ts";
import { useLive } from "../live.tsx";
import { SignedIn } from "../parts/account.tsx";
import { Fault, Page } from "../parts/parts.tsx";
import { type Turn, useConversation } from "./use-conversation.ts";

export function Playground() {
  return (
    <SignedIn title="Playground">
      <Chat />
    </SignedIn>
  );
}

function Chat() {
  const models = useLive().market?.models ?? [];
  const [chosen, setChosen] = useState("");
  const { turns, streaming, error, ask, stop, clear } = useConversation();
  const model = chosen || models[0]?.model || "";
  const scripted = models.find((offer) => offer.model === model)?.scripted;
  return (
    <Page title="Playground" intro="Each answer is paid from your balance, like any other request.">
      <ModelSelect value={model} onChange={setChosen} />
      {scripted && (
        <p className="text-warn">⚠ This one is scripted: it says the same whatever you ask. No model runs.</p>
      )}
      <ol className="space-y-3" aria-label="Conversation" aria-live="polite" aria-busy={streaming !== null}>
        {turns.map((turn) => (
          <Said key={turn.id} turn={turn} />
        ))}
        {streaming !== null && (
          <li className="card whitespace-pre-wrap" data-testid="streaming">
            {streaming || "…"}
          </li>
        )}
      </ol>
      <Fault error={error} />
      <Ask
        disabled={model === ""}
        busy={streaming !== null}
        onStop={stop}
        onAsk={(text) => ask(model, text)}
      />
      {turns.length > 0 && streaming === null && (
        <button type="button" className="button text-sm" onClick={clear}>
          Start anew
        </button>
      )}
    </Page>
  );
}

function ModelSelect({ value, onChange }: { value: string; onChange: (model: string) => void }) {
  const models = useLive().market?.models ?? [];
  const id = useId();
  return (
    <div className="space-y-1">
      <label htmlFor={id} className="text-sm text-text-2">
        Model
      </label>
      <select id={id} className="field" value={value} onChange={(event) => onChange(event.target.value)}>
        {value === "" && <option value="">No node is online</option>}
        {value !== "" && !models.some(({ model }) => model === value) && (
          <option value={value}>{value} (no node offers it now)</option>
        )}
        {models.map((offer) => (
          <option key={offer.model} value={offer.model}>
            {offer.model}
            {offer.scripted ? " (scripted, no model)" : ""}
          </option>
        ))}
      </select>
    </div>
  );
}

const BROKEN = { stopped: "■ stopped by you", failed: "✕ broke off" };

function Said({ turn: { role, content, answer, broken } }: { turn: Turn }) {
  const paid = answer?.x_gfe;
  return (
    <li className={`card whitespace-pre-wrap break-words ${role === "user" ? "bg-raised" : ""}`}>
      <span className="sr-only">{role === "user" ? "You: " : "Answer: "}</span>
      {content}
      {broken && (
        <p className="mt-2 text-sm text-text-3">{BROKEN[broken]}: what came is paid; see your jobs.</p>
      )}
      {paid && (
        <p className="mt-2 text-sm text-text-3" data-testid="cost">
          {paid.node_name ?? "unknown node"} · {answer.usage?.completion_tokens ?? 0} tokens ·{" "}
          {credits(paid.cost_micro)} credits
        </p>
      )}
    </li>
  );
}

interface AskProps {
  disabled: boolean;
  busy: boolean;
  onStop: () => void;
  /** Resolves with whether the prompt was taken; else it stays. */
  onAsk: (prompt: string) => Promise<boolean>;
}

function Ask({ disabled, busy, onStop, onAsk }: AskProps) {
  const [prompt, setPrompt] = useState("");
  const id = useId();
  const send = async (event: FormEvent) => {
    event.preventDefault();
    const text = prompt.trim();
    if (text === "" || disabled || busy) return;
    setPrompt("");
    if (!(await onAsk(text))) setPrompt((typed) => typed || prompt);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send(event);
  };
  return (
    <form onSubmit={(event) => void send(event)} className="space-y-3">
      <div className="space-y-1">
        <label htmlFor={id} className="text-sm text-text-2">
          Your message (Ctrl+Enter sends)
        </label>
        <textarea
          id={id}
          rows={3}
          className="field"
          value={prompt}
          onChange={(event) => setPrompt(event.target.value)}
          onKeyDown={onKeyDown}
        />
      </div>
      {busy ? (
        <button type="button" className="button" onClick={onStop}>
          Stop
        </button>
      ) : (
        <button type="submit" className="button-gold" disabled={disabled}>
          Send
        </button>
      )}
    </form>
  );
}
