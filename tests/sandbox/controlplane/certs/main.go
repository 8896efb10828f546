// Command certs writes the keys and certificates of one throw-away cluster into a folder, so that starting a cluster
// needs no openssl. It is apart from the control plane because it builds in seconds: someone who brings etcd and
// kube-apiserver along needs only this.
//
// The certificates are good for loopback and for ten days; nothing outside the folder trusts them.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const lifetime = 10 * 24 * time.Hour

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: certs DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "certs:", err)
		os.Exit(1)
	}
}

func write(directory string) error {
	ca, err := newPair(directory, "ca", &x509.Certificate{
		Subject:               pkix.Name{CommonName: "gitsyncd sandbox"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, nil)
	if err != nil {
		return err
	}
	if _, err := newPair(directory, "apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 0, 0, 1)},
	}, ca); err != nil {
		return err
	}
	if _, err := newPair(directory, "admin", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin-by-certificate", Organization: []string{"system:masters"}},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca); err != nil {
		return err
	}
	serviceAccounts, err := newKey(directory, "service-accounts")
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(serviceAccounts.Public())
	if err != nil {
		return err
	}
	return writePEM(directory, "service-accounts.pub", "PUBLIC KEY", public, 0o644)
}

type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// newPair signs the template with the issuer, or with its own key when there is none, and writes NAME.key and NAME.crt.
func newPair(directory, name string, template *x509.Certificate, issuer *pair) (*pair, error) {
	key, err := newKey(directory, name)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template.SerialNumber = serial
	template.NotBefore = now.Add(-time.Hour) // a clock that is set back a little must not break a running cluster
	template.NotAfter = now.Add(lifetime)
	if issuer == nil {
		issuer = &pair{certificate: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, key.Public(), issuer.key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &pair{certificate, key}, writePEM(directory, name+".crt", "CERTIFICATE", der, 0o644)
}

func newKey(directory, name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(directory, name+".key", "EC PRIVATE KEY", der, 0o600)
}

func writePEM(directory, name, kind string, der []byte, mode os.FileMode) error {
	block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(filepath.Join(directory, name), block, mode)
}
