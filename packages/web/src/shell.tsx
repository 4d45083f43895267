import { Link, Outlet } from "@tanstack/react-router";
import { client, credits, queryClient } from "./client.ts";
import { LiveProvider, useLive } from "./live.tsx";
import { useMe } from "./parts/parts.tsx";

const PAGES = [
  ["/playground", "Playground"],
  ["/jobs", "Jobs"],
  ["/keys", "Keys"],
  ["/nodes", "My nodes"],
  ["/ledger", "Ledger"],
] as const;

const STATES = {
  connecting: ["text-text-3", "○ Connecting"],
  live: ["text-success", "● Live"],
  reconnecting: ["text-warn", "◌ Reconnecting"],
  stale: ["text-danger", "✕ Stale"],
} as const;

export function Shell() {
  return (
    <LiveProvider>
      <Header />
      <main>
        <Outlet />
      </main>
    </LiveProvider>
  );
}

function Header() {
  const { state } = useLive();
  const { data: me } = useMe();
  const [colour, text] = STATES[state];
  const signOut = () => void client.signOut().then(() => queryClient.resetQueries());
  return (
    <header className="border-b border-overlay bg-surface">
      <nav
        aria-label="Main"
        className="mx-auto flex max-w-5xl flex-wrap items-center gap-x-5 gap-y-2 px-4 py-3"
      >
        <Link to="/" className="font-semibold text-gold">
          GPU For Everyone
        </Link>
        {PAGES.map(([to, label]) => (
          <Link
            key={to}
            to={to}
            className="text-text-2 hover:text-text"
            activeProps={{ className: "text-text underline", "aria-current": "page" }}
          >
            {label}
          </Link>
        ))}
        <a href="/docs" className="text-text-2 hover:text-text">
          API
        </a>
        <span className="grow" />
        <output className={`text-sm ${colour}`}>{text}</output>
        {me ? (
          <>
            <span className="text-sm tabular-nums">{credits(me.balance.available_micro)} credits</span>
            <button type="button" className="text-sm text-text-2 hover:text-text" onClick={signOut}>
              Sign out {me.user.name}
            </button>
          </>
        ) : (
          <Link to="/sign-in" search={{}} className="text-gold">
            Sign in
          </Link>
        )}
      </nav>
    </header>
  );
}
