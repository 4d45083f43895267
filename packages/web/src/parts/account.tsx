import { SdkError } from "@gfe/sdk";
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { client } from "../client.ts";
import { Fault, Page } from "./parts.tsx";

/** The signed-in account; null when nobody is. */
export function useMe() {
  return useQuery({
    queryKey: ["me"],
    queryFn: () =>
      client.me().catch((error: unknown) => {
        if (error instanceof SdkError && error.status === 401) return null;
        throw error;
      }),
  });
}

/** Its children only for who is signed in; everyone else is sent to sign in and comes back. */
export function SignedIn({ title, children }: { title: string; children: ReactNode }) {
  const { data: me, error, isPending } = useMe();
  const back = useLocation({ select: ({ href }) => href });
  if (isPending)
    return (
      <Page title={title}>
        <p className="text-text-3">Loading …</p>
      </Page>
    );
  if (me) return children;
  return (
    <Page title={title}>
      <Fault error={error} />
      <p className="text-text-2">This page is about your account.</p>
      <Link to="/sign-in" search={{ back }} className="button-gold inline-block">
        Sign in or register
      </Link>
    </Page>
  );
}

/** Where to go after signing in: a path of this site and nothing else, whatever a link says. */
export function safeBack(back: string | undefined): string {
  if (!back?.startsWith("/") || !URL.canParse(back, window.location.origin)) return "/";
  const url = new URL(back, window.location.origin);
  return url.origin === window.location.origin ? url.pathname + url.search + url.hash : "/";
}
