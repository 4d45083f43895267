import { useMutation } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { client, credits, queryClient } from "./client.ts";
import { LiveProvider, useLive } from "./live.tsx";
import { useMe } from "./parts/account.tsx";
import { Fault } from "./parts/parts.tsx";

const PAGES = [
  ["/playground", "Playground"],
  ["/jobs", "Jobs"],
  ["/keys", "Keys"],
  ["/nodes", "My nodes"],
  ["/prices", "Prices"],
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
      <a
        href="#main"
        className="sr-only focus:not-sr-only focus:absolute focus:left-2 focus:top-2 focus:bg-overlay focus:px-4 focus:py-2"
      >
        Skip to the page
      </a>
      <Header />
      <Main />
    </LiveProvider>
  );
}

/** Takes the focus when another page opens, so that keyboard and screen reader go on from there. */
function Main() {
  const main = useRef<HTMLElement>(null);
  const path = useLocation({ select: ({ pathname }) => pathname });
  const shown = useRef(path);
  useEffect(() => {
    if (shown.current === path) return;
    shown.current = path;
    main.current?.focus();
  }, [path]);
  return (
    <main id="main" ref={main} tabIndex={-1} className="focus-visible:outline-none">
      <Outlet />
    </main>
  );
}

function Header() {
  const { state } = useLive();
  const { data: me } = useMe();
  const navigate = useNavigate();
  const [colour, text] = STATES[state];
  const signOut = useMutation({
    mutationFn: client.signOut,
    onSuccess: async () => {
      await navigate({ to: "/" });
      await queryClient.resetQueries(); // nothing of the account stays
    },
  });
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
            className="py-1 text-text-2 hover:text-text"
            activeProps={{ className: "text-text underline" }}
          >
            {label}
          </Link>
        ))}
        <a href="/docs" className="py-1 text-text-2 hover:text-text">
          API
        </a>
        <span className="grow" />
        <output className={`text-sm ${colour}`} data-testid="live">
          {text}
        </output>
        {me ? (
          <>
            <span className="text-sm tabular-nums">{credits(me.balance.available_micro)} credits</span>
            <button
              type="button"
              className="py-1 text-sm text-text-2 hover:text-text"
              title={`Signed in as ${me.user.email}`}
              disabled={signOut.isPending}
              onClick={() => signOut.mutate()}
            >
              Sign out
            </button>
          </>
        ) : (
          <Link to="/sign-in" search={{}} className="py-1 text-gold">
            Sign in
          </Link>
        )}
      </nav>
      <Fault error={signOut.error} />
    </header>
  );
}
