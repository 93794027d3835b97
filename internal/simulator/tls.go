package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// wrapTLS puts TLS over both listeners. Where it fails they are closed.
func (s *Sim) wrapTLS(api, cdn net.Listener) (net.Listener, net.Listener, error) {
	cert, err := certificate(s.cfg.tlsNames)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a certificate: %w", err), api.Close(), cdn.Close())
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(cert.Leaf)
	s.rootPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	return tls.NewListener(api, cfg), tls.NewListener(cdn, cfg), nil
}

func certificate(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "assetd simulator"},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              names,
	}
	if len(names) == 0 {
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// Roots vouches for the simulator's certificate; nil without TLS.
func (s *Sim) Roots() *x509.CertPool { return s.roots }

// RootPEM is the same for a file, such as $SSL_CERT_FILE names; nil without TLS.
func (s *Sim) RootPEM() []byte { return s.rootPEM }
