/** What a service is to each system, as text. Pure: nothing here touches the machine. */

export interface Definition {
  /** The program and what it is given, each word as it is. */
  words: readonly string[];
  /** Holds the token, where there is one. */
  environmentFile: string;
}

export const SERVICE = {
  systemd: "gfe-agent.service",
  launchd: "org.gpu-for-everyone.agent",
  windows: "GPU For Everyone",
} as const;
/** Running answers may end: longer than the agent takes to drain. */
const STOP_S = 75;
const RESTART_S = 10;

/**
 * A unit of the user's own systemd. What is left out would take the GPU or the engines' sandbox away: PrivateDevices,
 * RestrictNamespaces, MemoryDenyWriteExecute (compiled shaders and scripts), ProtectSystem (needs what a user's manager lacks).
 */
export function systemdUnit({ words, environmentFile }: Definition): string {
  return `[Unit]
Description=GPU For Everyone: shares this machine's GPU
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart=${words.map(systemdWord).join(" ")}
EnvironmentFile=-${systemdPath(environmentFile)}
Environment=GFE_SERVICE=systemd
Restart=on-failure
RestartSec=${RESTART_S}
KillMode=mixed
TimeoutStopSec=${STOP_S}
Nice=5
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
`;
}

/** systemd.service(5), "Command lines": quoted, with what it would put in for % and $ taken as it is. */
function systemdWord(word: string): string {
  const escaped = word.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%").replaceAll("$", "$$$$");
  return `"${escaped}"`;
}

/** Not quoted, to the end of the line. */
const systemdPath = (path: string): string => path.replaceAll("%", "%%");

/** A LaunchAgent. Its file has the token in it, so it is for its owner's eyes. */
export function launchAgent(words: readonly string[], environment: Readonly<Record<string, string>>): string {
  const strings = (list: readonly string[]) =>
    list.map((one) => `    <string>${xml(one)}</string>`).join("\n");
  const pairs = Object.entries({ GFE_SERVICE: "launchd", ...environment })
    .map(([name, value]) => `    <key>${xml(name)}</key>\n    <string>${xml(value)}</string>`)
    .join("\n");
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${SERVICE.launchd}</string>
  <key>ProgramArguments</key>
  <array>
${strings(words)}
  </array>
  <key>EnvironmentVariables</key>
  <dict>
${pairs}
  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>${RESTART_S}</integer>
  <key>ExitTimeOut</key>
  <integer>${STOP_S}</integer>
  <key>Umask</key>
  <integer>63</integer>
</dict>
</plist>
`;
}

/** A task that starts when this user logs on, for as long as that lasts. */
export function logonTask([command, ...args]: readonly string[], user: string): string {
  return `<?xml version="1.0"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>GPU For Everyone: shares this machine's GPU</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <UserId>${xml(user)}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Owner">
      <UserId>${xml(user)}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>5</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Owner">
    <Exec>
      <Command>${xml(command!)}</Command>
      <Arguments>${xml(args.map(windowsWord).join(" "))}</Arguments>
    </Exec>
  </Actions>
</Task>
`;
}

/** As CommandLineToArgvW reads it: backslashes count only before a quote. */
function windowsWord(word: string): string {
  if (word !== "" && !/[\s"]/.test(word)) return word;
  return `"${word.replace(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`;
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const xml = (text: string): string => text.replace(/[&<>"]/g, (char) => ENTITIES[char]!);
