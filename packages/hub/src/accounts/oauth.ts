/**
 * Sign-in with others. Google and Microsoft go through better-auth's own providers, which know their endpoints (no
 * discovery that could fail while the hub starts) and check the id token's signature, audience and issuer; Microsoft's
 * issuer names the user's tenant, which a plain OIDC client would refuse. GitHub is no OIDC provider. A URL in the
 * configuration puts another server of that kind in their place: any OIDC issuer for Google, an authority with its
 * tenant for Microsoft, GitHub Enterprise for GitHub.
 */
import { verifyProviderIdToken } from "@better-auth/core/oauth2";
import {
  type GoogleOptions,
  google,
  type MicrosoftOptions,
  microsoft,
} from "@better-auth/core/social-providers";
import type { BetterAuthOptions } from "better-auth";
import { genericOAuth } from "better-auth/plugins";
import type { Config, OAuthProvider } from "../config.ts";

type OAuth = Config["oauth"];
type Credentials = NonNullable<OAuth[OAuthProvider]>;

const GITHUB_TIMEOUT_MS = 10_000;

/** For better-auth's `socialProviders`. */
export function socialProviders(oauth: OAuth): BetterAuthOptions["socialProviders"] {
  return {
    ...(oauth.google && oauth.google.url === null && { google: googleOptions(oauth.google) }),
    ...(oauth.microsoft && { microsoft: microsoftOptions(oauth.microsoft) }),
  };
}

function googleOptions({ clientId, clientSecret }: Credentials): GoogleOptions {
  const options: GoogleOptions = { clientId, clientSecret };
  const provider = google(options);
  return { ...options, getUserInfo: verified(provider) };
}

function microsoftOptions({ clientId, clientSecret, url }: Credentials): MicrosoftOptions {
  const options: MicrosoftOptions = {
    clientId,
    clientSecret,
    ...authorityOf(url),
    disableDefaultScope: true,
    scope: ["openid", "email", "profile"],
    disableProfilePhoto: true,
    // Work accounts may have no mailbox. Their name of the same shape is nobody's proof: it is not verified, and so
    // joins no account that exists.
    mapProfileToUser: (profile) =>
      profile.email === undefined && profile.preferred_username?.includes("@")
        ? { email: profile.preferred_username, emailVerified: false }
        : {},
  };
  const provider = microsoft(options);
  return { ...options, getUserInfo: verified(provider) };
}

/** better-auth trusts an id token that came straight from the token endpoint; we look at its signature as well. */
function verified<Tokens extends { idToken?: string | undefined }, Info>(
  provider: Parameters<typeof verifyProviderIdToken>[0] & {
    getUserInfo(tokens: Tokens): Promise<Info | null>;
  },
) {
  return async (tokens: Tokens): Promise<Info | null> =>
    tokens.idToken !== undefined && (await verifyProviderIdToken(provider, tokens.idToken))
      ? provider.getUserInfo(tokens)
      : null;
}

/** For those that `socialProviders` does not cover. */
export function otherProviders({ google, github }: OAuth) {
  return genericOAuth({
    config: [
      ...(google && google.url !== null
        ? [
            {
              providerId: "google",
              clientId: google.clientId,
              clientSecret: google.clientSecret,
              discoveryUrl: `${google.url}/.well-known/openid-configuration`,
              requireIdTokenVerification: true,
              scopes: ["openid", "email", "profile"],
            },
          ]
        : []),
      ...(github
        ? [
            {
              providerId: "github",
              clientId: github.clientId,
              clientSecret: github.clientSecret,
              authorizationUrl: `${github.url ?? "https://github.com"}/login/oauth/authorize`,
              tokenUrl: `${github.url ?? "https://github.com"}/login/oauth/access_token`,
              scopes: ["read:user", "user:email"],
              getUserInfo: (tokens: { accessToken?: string }) =>
                githubUser(
                  github.url ? `${github.url}/api/v3` : "https://api.github.com",
                  tokens.accessToken ?? "",
                ),
            },
          ]
        : []),
    ],
  });
}

/** `https://host/tenant` (and what Microsoft's pages show: `…/tenant/v2.0`) → authority and tenant. */
function authorityOf(url: string | null): { authority?: string; tenantId?: string } {
  if (url === null) return {};
  const { origin, pathname } = new URL(url);
  const tenantId = pathname.split("/").filter(Boolean)[0];
  return { authority: origin, ...(tenantId === undefined ? {} : { tenantId }) };
}

/** GitHub keeps the address apart from the user when it is private. */
async function githubUser(api: string, accessToken: string) {
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`${api}${path}`, {
      headers: {
        authorization: `Bearer ${accessToken}`,
        accept: "application/vnd.github+json",
        "user-agent": "gpu-for-everyone",
      },
      signal: AbortSignal.timeout(GITHUB_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`GitHub answered ${response.status}`);
    return response.json();
  };
  const user = (await get("/user")) as {
    id: number;
    login: string;
    name: string | null;
    avatar_url?: string;
  };
  const emails = (await get("/user/emails")) as { email: string; primary: boolean; verified: boolean }[];
  const primary = emails.find((email) => email.primary) ?? emails[0];
  if (!primary) return null;
  return {
    id: String(user.id),
    name: user.name ?? user.login,
    email: primary.email,
    emailVerified: primary.verified,
    image: user.avatar_url,
  };
}
