/** Accounts on a hub, made the way everyone's are: through its API. */
export interface Account {
  userId: string;
  cookie: string;
}

export interface Credentials {
  email: string;
  password: string;
}

/** A new account that nobody will sign in to again. */
export function register(hubUrl: string, name: string): Promise<Account> {
  const email = `${name}-${crypto.randomUUID().slice(0, 8)}@demo.invalid`;
  return enter(hubUrl, "sign-up", { name, email, password: crypto.randomUUID() });
}

/** The account with these credentials, made if there is none. */
export function signInOrRegister(hubUrl: string, name: string, credentials: Credentials): Promise<Account> {
  return enter(hubUrl, "sign-in", credentials).catch(() =>
    enter(hubUrl, "sign-up", { name, ...credentials }),
  );
}

async function enter(
  hubUrl: string,
  how: "sign-in" | "sign-up",
  body: Credentials & { name?: string },
): Promise<Account> {
  const response = await fetch(`${hubUrl}/api/auth/${how}/email`, {
    method: "POST",
    headers: { "content-type": "application/json", origin: hubUrl },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${how} of ${body.email} was answered ${response.status}`);
  const { user } = (await response.json()) as { user: { id: string } };
  return {
    userId: user.id,
    cookie: response.headers
      .getSetCookie()
      .map((line) => line.split(";")[0])
      .join("; "),
  };
}

/** POSTs to our REST as this account. */
export async function post<T>(hubUrl: string, account: Account, path: string, body: object): Promise<T> {
  const response = await fetch(hubUrl + path, {
    method: "POST",
    headers: { "content-type": "application/json", origin: hubUrl, cookie: account.cookie },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path} was answered ${response.status}`);
  return (await response.json()) as T;
}
