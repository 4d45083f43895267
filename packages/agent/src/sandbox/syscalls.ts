/**
 * System calls that no engine needs, by their numbers (the kernel's asm/unistd.h of each architecture): those that change what
 * is mounted or running, look into other processes, load code into the kernel, or have a long record of holes.
 */
export type Architecture = "x64" | "arm64";

/** [x64, arm64]; null where the architecture has no such call. */
export const DENIED_CALLS: Readonly<Record<string, readonly [number, number | null]>> = {
  // Mounts and roots.
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  statmount: [457, 457],
  listmount: [458, 458],
  swapon: [167, 224],
  swapoff: [168, 225],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  fanotify_init: [300, 262],
  // Other processes, other namespaces.
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  process_madvise: [440, 440],
  kcmp: [312, 272],
  pidfd_getfd: [438, 438],
  unshare: [272, 97],
  setns: [308, 268],
  // Keys, programs in the kernel, watching it.
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  lookup_dcookie: [212, 18],
  syslog: [103, 116],
  acct: [163, 89],
  // The machine itself.
  reboot: [169, 142],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  create_module: [174, null],
  get_kernel_syms: [177, null],
  query_module: [178, null],
  nfsservctl: [180, 42],
  iopl: [172, null],
  ioperm: [173, null],
  modify_ldt: [154, null],
  _sysctl: [156, null],
  uselib: [134, null],
  ustat: [136, null],
  sysfs: [139, null],
  vhangup: [153, 58],
  personality: [135, 92],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  adjtimex: [159, 171],
  sethostname: [170, 161],
  setdomainname: [171, 162],
};

/** Answered with "not there", so that programs take another way. clone3 hides its flags where no filter can see them. */
export const ABSENT_CALLS: Readonly<Record<string, readonly [number, number]>> = {
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  clone3: [435, 435],
};

/** Calls that are judged by their arguments. */
export const JUDGED_CALLS = { clone: [56, 220], socket: [41, 198], ioctl: [16, 29] } as const;
