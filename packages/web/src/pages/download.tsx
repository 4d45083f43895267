/** The agent for this visitor's machine, and for all others. */
import type { ReleaseFile } from "@gfe/sdk";
import { useQuery } from "@tanstack/react-query";
import { client } from "../client.ts";
import { Command, Fault, Page, Table } from "../parts/parts.tsx";
import { inOrder, platformOf } from "../platform.ts";

const SYSTEMS = { linux: "Linux", windows: "Windows", macos: "macOS" } as const;
const KINDS = { slim: "the agent alone", full: "agent and client" } as const;

interface UserAgentData {
  platform?: string;
  getHighEntropyValues?(hints: string[]): Promise<{ architecture?: string }>;
}

/** What the browser tells of the machine; the processor where it has a way to ask. */
async function askPlatform() {
  const data = (navigator as { userAgentData?: UserAgentData }).userAgentData;
  const more = await data?.getHighEntropyValues?.(["architecture"]).catch(() => undefined);
  return platformOf({
    userAgent: navigator.userAgent,
    platform: data?.platform,
    architecture: more?.architecture,
  });
}

export function Download() {
  const { data: release, error } = useQuery({ queryKey: ["release"], queryFn: client.release });
  const { data: platform } = useQuery({ queryKey: ["platform"], queryFn: askPlatform });
  const { origin } = window.location;
  const files = release ? inOrder(release.files, platform ?? null) : [];
  const fits = (file: ReleaseFile) => file.os === platform?.os && file.arch === platform.arch;
  const isWindows = platform?.os === "windows";
  return (
    <Page
      title="Download"
      intro="The agent shares this machine's GPU through this hub. It installs for you alone, without administrator's rights."
    >
      <Fault error={error} />
      <div className="card space-y-3">
        <h2 className="text-lg font-semibold">With Node 20 or later</h2>
        <Command text={`npx gpu-for-everyone up --hub ${origin}`} />
      </div>
      {release === null && (
        <p className="card text-text-2" role="status">
          This hub has no downloads. Its operator builds them with <code>npm run build:agents</code> and signs
          them with <code>npm run sign:agents</code>, or names their folder in <code>GFE_DOWNLOADS_DIR</code>.
        </p>
      )}
      {release && (
        <>
          <div className="card space-y-3">
            <h2 className="text-lg font-semibold">
              Without Node, on {isWindows ? "Windows" : "Linux or macOS"}
            </h2>
            <p className="text-text-2">
              It picks the program for your machine, checks it, and says what it checked. Read it first if you
              like: it is a short script.
            </p>
            <Command
              text={isWindows ? `irm ${origin}/install.ps1 | iex` : `curl -fsSL ${origin}/install.sh | sh`}
            />
          </div>
          <h2 className="text-xl font-semibold">Version {release.version}, all files</h2>
          <Table
            caption="Files of the release"
            head={["File", "For", "Size", "Signature", "SHA-256"]}
            rows={files.map((file) => [
              <a key="name" className="text-text underline" href={addressOf(file)} download={file.name}>
                {file.name}
              </a>,
              `${fits(file) ? "✓ yours: " : ""}${SYSTEMS[file.os]} ${file.arch}, ${KINDS[file.kind]}`,
              `${(file.bytes / 1e6).toFixed(1)} MB`,
              <a
                key="signature"
                className="text-text-2 underline"
                href={`/download/files/${file.name}.minisig`}
              >
                minisig
              </a>,
              <code key="sum" className="font-mono text-xs break-all text-text-3">
                {file.sha256}
              </code>,
            ])}
            empty="This release has no files."
          />
        </>
      )}
    </Page>
  );
}

const addressOf = ({ name, sha256 }: ReleaseFile): string => `/download/files/${name}?sha256=${sha256}`;
