/** Registration and sessions, through better-auth's routes. In a browser the session is a cookie that no script sees. */
import { z } from "zod";
import type { Caller } from "./http.ts";

const sessionSchema = z
  .object({
    user: z.object({ id: z.string(), email: z.string(), name: z.string() }),
    session: z.object({ expiresAt: z.iso.datetime() }),
  })
  .nullable();
export type Session = z.infer<typeof sessionSchema>;

export interface SocialSignIn {
  provider: "google" | "github" | "microsoft";
  /** Paths of this site: where to go afterwards, and where to with `?error=…` if it fails. */
  callbackURL: string;
  errorCallbackURL?: string;
}

export function createAuthCalls({ json, none }: Pick<Caller, "json" | "none">) {
  return {
    signUp: (body: { email: string; password: string; name: string }) =>
      none("/api/auth/sign-up/email", { method: "POST", body }),
    signIn: (body: { email: string; password: string }) =>
      none("/api/auth/sign-in/email", { method: "POST", body }),
    signOut: () => none("/api/auth/sign-out", { method: "POST", body: {} }),
    /** Who is signed in; null where nobody is. */
    session: (): Promise<Session> => json(sessionSchema, "/api/auth/get-session"),
    /** The address to send the browser to. */
    socialSignInUrl: async (request: SocialSignIn): Promise<string> => {
      const body = { ...request, disableRedirect: true };
      const answer = z.object({ url: z.url() });
      return (await json(answer, "/api/auth/sign-in/social", { method: "POST", body })).url;
    },
  };
}
