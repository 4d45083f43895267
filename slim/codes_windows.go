package main

import "syscall"

// Of winerror.h and winsock2.h.
var errnoNames = map[syscall.Errno]string{
	10061: "ECONNREFUSED",
	10054: "ECONNRESET",
	10053: "ECONNABORTED",
	10065: "EHOSTUNREACH",
	10051: "ENETUNREACH",
	10060: "ETIMEDOUT",
	10048: "EADDRINUSE",
	112:   "ENOSPC",
	39:    "ENOSPC",
	19:    "EROFS",
	267:   "ENOTDIR",
	145:   "ENOTEMPTY",
	109:   "EPIPE",
	232:   "EPIPE",
}
