/** An engine that wants out: what it tries in a sandbox, and what it got, told as a line of JSON each. */
import type { Helper } from "../host.ts";
import { type Architecture, DENIED_CALLS, JUDGED_CALLS } from "../sandbox/syscalls.ts";

/** Perl is on every Debian, and makes any system call. */
export const PERL = "/usr/bin/perl";

const PRELUDE = `
use strict; use warnings; no warnings; use Socket; use POSIX ();
$| = 1; $SIG{PIPE} = "IGNORE";
sub text { my ($value) = @_; $value = substr($value // "", 0, 400); $value =~ s/[^ -~]/?/g; $value =~ s/(["\\\\])/\\\\$1/g; return $value; }
sub report { my ($what, $got, $detail) = @_; printf qq({"what":"%s","got":%s,"detail":"%s"}\\n), text($what), $got ? "true" : "false", text($detail); }
sub reads { my ($path) = @_; if (open(my $file, "<", $path)) { local $/; my $content = <$file>; return $content if defined $content; } return undef; }
`;

export interface Told {
  what: string;
  got: boolean;
  detail: string;
}

export const hostile = (script: string): Helper => ({
  command: PERL,
  // What ends too early proves nothing.
  args: ["-e", `${PRELUDE}${script}\nreport("end", 0, "");`],
  reads: [],
});

const words = (list: readonly string[]): string => `(${list.map((one) => `'${one}'`).join(",")})`;

/** Reads what it was told of, then every file that it can find, for the secret. */
export const readFiles = (paths: readonly string[], secret: string): Helper =>
  hostile(`
    for my $path (${words(paths).slice(1, -1)}) {
      my $found;
      for my $way ("", "/proc/1/root", "/proc/self/root/../..", "/proc/self/cwd/../../.."){ my $content = reads("$way$path"); $found = $content if defined $content; }
      report($path, defined $found, $found);
    }
    my ($count, @found) = (0);
    sub walk { my ($folder, $depth) = @_; return if $depth > 12;
      opendir(my $open, $folder) or return;
      for my $name (readdir $open) { next if $name eq "." || $name eq "..";
        my $path = "$folder/$name"; next if -l $path; next if $path =~ m{^//?(usr|sys|dev)/};
        if (-d _ ) { walk($path, $depth + 1) unless $path =~ m{^//?proc/\\d}; }
        elsif (-f _) { next if $path =~ m{^//?proc/}; $count++; my $content = reads($path); push @found, $path if defined $content && index($content, "${secret}") >= 0; } } }
    walk("", 0);
    report("a file with the secret", scalar @found, "@found of $count");
    my $environments = join " ", map { reads($_) // "" } glob("/proc/[0-9]*/environ");
    report("an environment with the secret", index($environments, "${secret}") >= 0, "");
    report("a file in a home", (grep { -e } glob("/home/* /root/* /root/.ssh")) > 0, join " ", glob("/home/* /root/*"));
  `);

export interface Targets {
  tcpPort: number;
  udpPort: number;
  abstract: string;
  path: string;
  addresses: readonly string[];
  /** Whether to call the world, too. */
  world: boolean;
}

/** Calls everybody that listens outside, and the world. */
export const callOut = ({ tcpPort, udpPort, abstract, path, addresses, world }: Targets): Helper =>
  hostile(`
    $SIG{ALRM} = sub { die "timeout" };
    sub connects { my ($what, $family, $address) = @_;
      my $got = eval { alarm 2; socket(my $socket, $family, SOCK_STREAM, 0) or die "socket: $!"; connect($socket, $address) or die "connect: $!"; syswrite($socket, "GET / HTTP/1.0\\r\\n\\r\\n"); 1 };
      my $why = $@; alarm 0; report($what, $got, $why); }
    for my $address (${addresses.map((one) => `"${one}"`).join(",")}) {
      connects("tcp $address", PF_INET, pack_sockaddr_in(${tcpPort}, inet_aton($address)));
      socket(my $udp, PF_INET, SOCK_DGRAM, 0); send($udp, "x", 0, pack_sockaddr_in(${udpPort}, inet_aton($address)));
    }
    if (${world ? 1 : 0}) { connects("tcp 1.1.1.1", PF_INET, pack_sockaddr_in(53, inet_aton("1.1.1.1")));
      my @found = eval { alarm 3; gethostbyname("example.com") }; alarm 0; report("a name", scalar @found, ""); }
    connects("unix $_", PF_UNIX, pack_sockaddr_un($_)) for ('${path}', '/var/run/docker.sock', '/run/podman/podman.sock', '/run/dbus/system_bus_socket');
    connects("abstract", PF_UNIX, pack("S", PF_UNIX) . "\\0${abstract}");
    report("vsock", socket(my $vsock, 40, SOCK_STREAM, 0), "$!");
    my $devices = reads("/proc/net/dev") // "";
    report("a network device", scalar($devices =~ /^\\s*(?!lo:)(?!tunl|sit|ip6|gre|erspan)\\w+:/m), $devices);
  `);

/** Children in sessions of their own that heed no signal. Told when they are there; then it waits for ever. */
export const hide = (marker: string): Helper =>
  hostile(`
    for my $way (1 .. 3) {
      if (fork() == 0) { POSIX::setsid(); if (fork() == 0) { if ($way > 1) { POSIX::setsid(); } if ($way < 3 || fork() == 0) {
        $0 = "${marker}"; $SIG{$_} = "IGNORE" for qw(TERM HUP INT PIPE QUIT USR1);
        if ($way == 2) { close STDIN; close STDOUT; close STDERR; } sleep 1 while 1; } } POSIX::_exit(0); }
    }
    $0 = "${marker}"; $SIG{$_} = "IGNORE" for qw(TERM HUP INT PIPE);
    select(undef, undef, undef, 0.2);
    report("hidden", 1, "");
    sleep 1 while 1;
  `);

/** Writes wherever it may until it is told to stop, at most so many bytes a place. */
export const fillDisk = (bytesMax: number): Helper =>
  hostile(`
    my $block = "x" x 65536;
    for my $folder ("/tmp", "/dev/shm", "/dev", "/", "/run", "/var/tmp", "/usr", "/model", "/proc", "/sys", "/etc", "/root", "/home", ".") {
      my $written = 0; my $number = 0;
      OUT: while ($written < ${bytesMax} && $number < 64) {
        open(my $file, ">", "$folder/fill." . $number++) or last;
        while ($written < ${bytesMax}) { my $count = syswrite($file, $block); last OUT unless $count; $written += $count; }
      }
      report($folder, $written > 0, $written);
    }
  `);

/** Takes memory until something ends it. */
export const fillMemory = (mibMax: number): Helper =>
  hostile(
    `my @held; for my $mib (1 .. ${mibMax}) { push @held, "x" x 1048576; report("memory", 1, $mib) if $mib % 16 == 0; }`,
  );

/** As many processes as it gets. */
export const breed = (max: number): Helper =>
  hostile(`
    my @born; for (1 .. ${max}) { my $pid = fork(); last unless defined $pid; if ($pid == 0) { sleep 20; POSIX::_exit(0); } push @born, $pid; }
    report("processes", 1, scalar @born); kill 9, @born;
  `);

/** The system calls that open doors, and the files that rule the machine. */
export function dig(architecture: Architecture): Helper {
  const column = architecture === "x64" ? 0 : 1;
  const number = (name: string) => DENIED_CALLS[name]![column]!;
  const calls: [string, number, string][] = [
    ["ptrace", number("ptrace"), "16, getppid(), 0, 0"],
    ["process_vm_readv", number("process_vm_readv"), "1, 0, 0, 0, 0, 0"],
    ["mount", number("mount"), "$none, $tmp, $tmpfs, 0, $none"],
    ["umount2", number("umount2"), "$rules, 2"],
    ["pivot_root", number("pivot_root"), "$tmp, $tmp"],
    ["chroot", number("chroot"), "$tmp"],
    ["unshare", number("unshare"), "0x10000000"],
    ["setns", number("setns"), "0, 0"],
    ["clone", JUDGED_CALLS.clone[column], "0x10000011, 0, 0, 0, 0"],
    ["keyctl", number("keyctl"), "0, -3, 1"],
    ["add_key", number("add_key"), "$none, $tmp, $tmpfs, 1, -3"],
    ["bpf", number("bpf"), "0, 0, 0"],
    ["perf_event_open", number("perf_event_open"), "0, 0, -1, -1, 0"],
    ["userfaultfd", number("userfaultfd"), "0"],
    ["io_uring_setup", 425, "1, 0"],
    ["init_module", number("init_module"), "0, 0, $none"],
    ["kexec_load", number("kexec_load"), "0, 0, 0, 0"],
    ["open_by_handle_at", number("open_by_handle_at"), "0, 0, 0"],
    ["reboot", number("reboot"), "0, 0, 0, 0"],
    ["fsopen", 430, "$tmpfs, 0"],
  ];
  const lines = calls.map(
    ([name, call, args]) =>
      `{ $! = 0; my $got = syscall(${call}, ${args}); POSIX::_exit(0) if "${name}" eq "clone" && $got == 0; report("${name}", $got != -1, $! + 0); }`,
  );
  return hostile(`
    my $status = reads("/proc/self/status");
    my ($capabilities) = $status =~ /CapEff:\\s*(\\w+)/; report("capabilities", $capabilities !~ /^0+$/, $capabilities);
    my ($gain) = $status =~ /NoNewPrivs:\\s*(\\d)/; report("new privileges", $gain ne "1", $gain);
    my ($none, $tmp, $tmpfs, $rules) = ("user", "/tmp", "tmpfs", "/proc/sys"); # a call may write to its words
    ${lines.join("\n")}
    for my $path ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/dev/mem", "/dev/kmsg") {
      my $got = sysopen(my $file, $path, 1); # nothing is written: the machine is real report("write $path", $got, "$!");
    }
    for my $line (split /\\n/, reads("/proc/self/mounts")) { my (undef, $place, $kind, $how) = split / /, $line;
      report("write a disk at $place", 1, $line) if $how =~ /^rw/ && $place ne "/dev/shm" && $kind !~ /^(tmpfs|devtmpfs|proc|devpts|mqueue|sysfs|cgroup2?)$/; }
    my ($dump) = reads("/proc/self/limits") =~ /core file size\\s+(\\S+)/; report("dumps", $dump ne "0", $dump);
    my @processes = glob("/proc/[0-9]*"); report("others' processes", scalar(@processes) > 6, scalar @processes);
  `);
}
