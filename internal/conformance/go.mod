module github.com/consignq/consign/internal/conformance

go 1.26.4

require (
	filippo.io/edwards25519 v1.2.0
	github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
	github.com/consignq/consign v0.0.0
	github.com/gowebpki/jcs v1.0.2
	github.com/secure-systems-lab/go-securesystemslib v0.11.1
	golang.org/x/crypto v0.58.0
)

require golang.org/x/sys v0.49.0 // indirect

replace github.com/consignq/consign => ../..
