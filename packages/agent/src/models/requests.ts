/** Asks a model host: follows its redirects to where the bytes lie, keeps the token from everybody else. */
import type { Host, HttpResponse } from "../host.ts";
import { MODEL_LIMITS } from "../limits.ts";
import { ModelProblem } from "./problem.ts";

export interface Fetched {
  response: HttpResponse;
  /** The digest and size that the first server told of what lies elsewhere. */
  linked: { sha256?: string; bytes?: number };
}

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/**
 * The answer behind all redirects, whatever its status. Rejects where no connection came about, and with ModelProblem
 * where the way leads somewhere it must not.
 */
export async function follow(
  host: Pick<Host, "http">,
  url: string,
  options: { headers: Record<string, string>; token?: string; signal: AbortSignal },
): Promise<Fetched> {
  const first = new URL(url);
  let at = first;
  const linked: Fetched["linked"] = {};
  for (let hop = 0; hop <= MODEL_LIMITS.redirects; hop++) {
    // A signed address carries its own right: the token is for the first server alone.
    const mine: Record<string, string> =
      options.token && at.origin === first.origin ? { authorization: `Bearer ${options.token}` } : {};
    const response = await host.http({
      url: at.href,
      headers: { "user-agent": "gfe", ...options.headers, ...mine },
      signal: options.signal,
    });
    const told = /^"?([0-9a-f]{64})"?$/.exec(response.header("x-linked-etag") ?? "")?.[1];
    if (told) linked.sha256 = told;
    const bytes = Number(response.header("x-linked-size"));
    if (bytes > 0) linked.bytes = bytes;
    const location = response.header("location");
    if (!REDIRECTS.includes(response.status) || !location) return { response, linked };
    response.cancel();
    const next = URL.parse(location, at.href);
    if (!next || !/^https?:$/.test(next.protocol))
      throw new ModelProblem(
        `${at.host} sends the download to "${location.slice(0, 100)}", which is no address`,
      );
    if (at.protocol === "https:" && next.protocol === "http:")
      throw new ModelProblem(
        `${at.host} sends the download to ${next.host} without encryption, so it was not followed`,
      );
    at = next;
  }
  throw new ModelProblem(`${first.host} sends the download around in circles`);
}

/** What a refusal means, in words. `page` is where a person accepts a model's terms. */
export function refusalOf(
  response: HttpResponse,
  url: string,
  page: string | null,
  hasToken: boolean,
): ModelProblem {
  const { host } = new URL(url);
  const code = response.header("x-error-code");
  const where = page ?? url;
  if (code === "GatedRepo" || (response.status === 403 && page !== null))
    return new ModelProblem(
      hasToken
        ? `the model's makers have not let this HF_TOKEN in yet: open ${where}, accept their terms and wait for their answer`
        : `the model's makers want their terms accepted first: open ${where}, accept them, and put an access token into HF_TOKEN`,
    );
  if (code === "RepoNotFound" || code === "EntryNotFound" || response.status === 404)
    return new ModelProblem(
      `${host} has no ${where}: check the spelling${hasToken ? "" : ", or put an access token into HF_TOKEN if it is private"}`,
    );
  if (response.status === 401 || response.status === 403)
    return new ModelProblem(
      hasToken
        ? `${host} refuses this HF_TOKEN for ${where}: make a new one that may read it`
        : `${host} gives ${where} only to those it knows: put an access token into HF_TOKEN`,
    );
  return new ModelProblem(`${host} answered ${response.status}: try again later`);
}
