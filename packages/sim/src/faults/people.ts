/** People of a hub that runs as a process of its own. */

export interface FaultPerson {
  userId: string;
  cookie: string;
  key: string;
  agentToken: string;
}

export async function signUp(hubUrl: string, name: string): Promise<FaultPerson> {
  const post = async (path: string, body: object, cookie?: string) => {
    const response = await fetch(hubUrl + path, {
      method: "POST",
      headers: { "content-type": "application/json", origin: hubUrl, ...(cookie ? { cookie } : {}) },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
    return response;
  };
  const signedUp = await post("/api/auth/sign-up/email", {
    ...{ name, email: `${name}@example.org`, password: "correct horse battery" },
  });
  const cookie = signedUp.headers
    .getSetCookie()
    .map((line) => line.split(";")[0])
    .join("; ");
  const { user } = (await signedUp.json()) as { user: { id: string } };
  const scopes = ["inference", "read", "manage"];
  const secret = async (path: string, body: object) =>
    ((await (await post(path, body, cookie)).json()) as { secret: string }).secret;
  return {
    ...{ userId: user.id, cookie },
    key: await secret("/api/v1/keys", { label: "faults", scopes }),
    agentToken: await secret("/api/v1/agent-tokens", { label: "faults" }),
  };
}
