/** Writes docs/configuration.md from the hub's own list of variables. */
import { writeFileSync } from "node:fs";
import { configVariables } from "@gfe/hub";

/** The page's text. The data directory's default depends on the user, so it is told in words. */
export function configurationPage(): string {
  const rows = configVariables.map(({ name, meaning, default: fallback }) => {
    const shown =
      name === "GFE_DATA_DIR"
        ? "`$XDG_DATA_HOME/gpu-for-everyone`; `/var/lib/gpu-for-everyone` for root"
        : fallback === ""
          ? "–"
          : `\`${fallback}\``;
    return `| \`${name}\` | ${meaning} | ${shown} |`;
  });
  return [
    "# Configuration",
    "",
    "Environment variables of `gfe hub`. Made by `node scripts/configuration-page.ts`.",
    "",
    "| variable | meaning | default |",
    "|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

if (import.meta.main)
  writeFileSync(new URL("../docs/configuration.md", import.meta.url), configurationPage());
