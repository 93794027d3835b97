package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// ruleError is a refusal by our own rules: what it refuses is never fetched,
// however often it is tried.
type ruleError struct{ reason string }

func (e *ruleError) Error() string { return e.reason }

// notPublic lists the IPv4 networks that are not part of the public Internet
// (IANA special-purpose registry, RFC 6890 and its updates).
var notPublic = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("10.0.0.0/8"),      // private
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local, cloud metadata
	netip.MustParsePrefix("172.16.0.0/12"),   // private
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),  // private
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("224.0.0.0/3"),     // multicast, reserved, broadcast
}

// public6 is the only part of IPv6 that is given out for public use; notPublic6
// is what within it is not. nat64 carries an IPv4 address in its last 4 bytes.
var (
	public6    = netip.MustParsePrefix("2000::/3")
	notPublic6 = [...]netip.Prefix{
		netip.MustParsePrefix("2001::/23"),     // Teredo, benchmarking, ORCHID
		netip.MustParsePrefix("2001:db8::/32"), // documentation
		netip.MustParsePrefix("2002::/16"),     // 6to4: leads to any IPv4 address
		netip.MustParsePrefix("3fff::/20"),     // documentation
	}
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// reachable reports whether an address may be connected to: it is public, or in
// one of the networks allowed.
func reachable(ip netip.Addr, allowed []netip.Prefix) bool {
	ip = ip.Unmap().WithZone("")
	for _, network := range allowed {
		if network.Contains(ip) {
			return true
		}
	}
	if nat64.Contains(ip) {
		bytes := ip.As16()
		return reachable(netip.AddrFrom4([4]byte(bytes[12:])), allowed)
	}
	if ip.Is4() {
		return !within(ip, notPublic[:])
	}
	return public6.Contains(ip) && !within(ip, notPublic6[:])
}

func within(ip netip.Addr, networks []netip.Prefix) bool {
	for _, network := range networks {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// unmap writes networks given in the IPv4-mapped form as IPv4, the form in which
// addresses are judged.
func unmap(networks []netip.Prefix) []netip.Prefix {
	plain := make([]netip.Prefix, 0, len(networks))
	for _, n := range networks {
		if n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		plain = append(plain, n.Masked())
	}
	return plain
}

// literal reads a host that is an address: in its usual form, or in one of those
// that resolvers and proxies understand as well (127.1, 2130706433, 0x7f000001).
func literal(host string) (netip.Addr, bool) {
	host = strings.TrimSuffix(host, ".")
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts)) // the last part fills what is left (inet_aton)
		}
		n, err := strconv.ParseUint(part, 0, bits)
		if err != nil || strings.ContainsAny(part, "_oObB") && !strings.HasPrefix(strings.ToLower(part), "0x") {
			return netip.Addr{}, false
		}
		sum = sum<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}), true
}

// check judges what the rules can judge before anything is sent.
func (c *Client) check(t target) error {
	cfg := c.cfg.Load()
	if t.scheme == "http" && !cfg.AllowHTTP {
		return &ruleError{"http without TLS is not fetched (download.allow_http is false)"}
	}
	if ip, ok := literal(t.name); ok && !reachable(ip, cfg.AllowNetworks) {
		return refusedNetwork(ip)
	}
	if c.proxied && !ascii(t.name) {
		return &ruleError{"a host beyond ASCII may stand for an address, and through a proxy only addresses written plainly can be judged"}
	}
	return nil
}

func refusedNetwork(ip netip.Addr) error {
	return &ruleError{fmt.Sprintf("%s is not a public address (download.allow_networks lets networks through)", ip)}
}

// dial connects, and judges each address when the name is resolved and the
// socket about to connect: an earlier look falls to a name that resolves
// differently the second time. Where only some of a name's addresses are refused
// the others are tried, and what comes of them decides. Its error is one of the
// network, never of the rules: what a name resolves to may be another address the
// next time. An address that is written in the URL is for check.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := c.dialer
	if c.proxied {
		return dialer.DialContext(ctx, network, addr) // the only address asked for is the proxy's
	}
	allowed := c.cfg.Load().AllowNetworks
	var tried atomic.Int32 // two address families are tried side by side
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !reachable(to.Addr(), allowed) {
			return refusedNetwork(to.Addr())
		}
		tried.Add(1)
		return nil
	}
	conn, err := dialer.DialContext(ctx, network, addr)
	var rule *ruleError
	switch {
	case !errors.As(err, &rule):
		return conn, err
	case tried.Load() > 0:
		return nil, fmt.Errorf("dial %s: %d of its addresses cannot be reached, and %s", addr, tried.Load(), rule.reason)
	}
	return nil, fmt.Errorf("dial %s: %s", addr, rule.reason)
}
