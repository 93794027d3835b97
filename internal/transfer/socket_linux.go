package transfer

import (
	"net"
	"syscall"
)

// What a held connection keeps of the server's bytes in this machine's kernel is
// small, so that a trickle of reads is seen by the server as one (tcp(7)): with
// buffers as they are by themselves, the kernel swallows up to 6 MB unread.
const (
	narrowBuffer = 16 << 10
	wideBuffer   = 4 << 20
	soBufLock    = 72 // SO_BUF_LOCK of asm-generic/socket.h, Linux 5.16; not among syscall's names
)

// narrow makes the connection's receive buffer small.
func shrinkBuffer(c net.Conn) {
	control(c, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, narrowBuffer)
	})
}

// widen undoes narrow: the kernel chooses the buffer's size again, and where it is
// too old for that, gets a large one. The transfer works without, only slower.
func restoreBuffer(c net.Conn) {
	control(c, func(fd int) {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, wideBuffer)
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_WINDOW_CLAMP, wideBuffer)
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soBufLock, 0)
	})
}

func control(c net.Conn, do func(fd int)) {
	for {
		over, ok := c.(interface{ NetConn() net.Conn }) // such as tls.Conn
		if !ok {
			break
		}
		c = over.NetConn()
	}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { do(int(fd)) })
		}
	}
}
