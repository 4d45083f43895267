/** The same list of denied calls in the words of container programs: their own list of what is allowed, less what ours denies. */
import { z } from "zod";
import { parseJson } from "../body.ts";
import type { Host } from "../host.ts";
import { textOf } from "./machine.ts";
import { ALLOWED_FAMILIES, CLONE_NEW } from "./seccomp.ts";
import { ABSENT_CALLS, DENIED_CALLS } from "./syscalls.ts";

const profileSchema = z.looseObject({
  defaultAction: z.literal("SCMP_ACT_ERRNO"),
  syscalls: z.array(z.looseObject({ names: z.array(z.string()), action: z.string() })),
});

/** Where Debian, Fedora and others keep Podman's. */
const PROFILES = ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];
const ENOSYS = 38;

/** The path of the profile, written to the state directory; null where Podman's own is not found. */
export async function writeProfile({
  files,
  directories,
}: Pick<Host, "files" | "directories">): Promise<string | null> {
  for (const path of PROFILES) {
    const profile = profileSchema.safeParse(parseJson(await textOf(files, path))).data;
    if (!profile) continue;
    const written = files.join(directories.state, "seccomp.json");
    await files.makeDirectory(directories.state, 0o700);
    await files.write(written, JSON.stringify(narrowed(profile)), { mode: 0o600 });
    return written;
  }
  return null;
}

function narrowed(profile: z.infer<typeof profileSchema>): object {
  const gone = new Set([...Object.keys(DENIED_CALLS), ...Object.keys(ABSENT_CALLS), "clone", "socket"]);
  const allow = "SCMP_ACT_ALLOW";
  const families = ALLOWED_FAMILIES.map((value) => ({
    ...{ names: ["socket"], action: allow },
    args: [{ index: 0, value, op: "SCMP_CMP_EQ" }],
  }));
  const kept = profile.syscalls
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !gone.has(name)) }))
    .filter(({ names }) => names.length > 0);
  return {
    ...profile,
    syscalls: [
      ...kept,
      ...families,
      {
        names: ["clone"],
        action: allow,
        args: [{ index: 0, value: CLONE_NEW, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
      },
      { names: Object.keys(ABSENT_CALLS), action: "SCMP_ACT_ERRNO", errnoRet: ENOSYS },
    ],
  };
}
