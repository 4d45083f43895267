/** Keys and tokens: shown once when made, revoked for good. */
import { useState } from "react";
import { Copy } from "./parts.tsx";

interface SecretProps {
  secret: string;
  what: string;
  onDone: () => void;
}

/** A secret, shown this once. */
export function Secret({ secret, what, onDone }: SecretProps) {
  return (
    <div role="status" className="card space-y-3 border-gold">
      <p className="text-gold">This {what} is shown once. Keep it now.</p>
      <div className="flex items-start gap-2">
        <code data-testid="secret" className="min-w-0 grow rounded-lg bg-bg p-3 font-mono text-sm break-all">
          {secret}
        </code>
        <Copy text={secret} />
      </div>
      <button type="button" className="button" onClick={onDone}>
        I have kept it
      </button>
    </div>
  );
}

interface RevokeProps {
  label: string;
  revokedAt: string | null;
  busy: boolean;
  onRevoke: () => void;
}

/** Asks once more: a revoked secret cannot be had back. */
export function Revoke({ label, revokedAt, busy, onRevoke }: RevokeProps) {
  const [sure, setSure] = useState(false);
  if (revokedAt) return <span className="text-text-3">revoked</span>;
  if (!sure)
    return (
      <button
        type="button"
        className="button text-sm"
        aria-label={`Revoke ${label}`}
        onClick={() => setSure(true)}
      >
        Revoke
      </button>
    );
  return (
    <button
      type="button"
      className="button border-danger text-sm whitespace-nowrap text-danger"
      aria-label={`Revoke ${label} for good`}
      disabled={busy}
      onBlur={() => setSure(false)}
      onClick={onRevoke}
    >
      Really revoke
    </button>
  );
}
