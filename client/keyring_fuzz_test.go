package client

import (
	"bytes"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// What is read of a keyring's file is total, and is what is written again.
func FuzzOpenJob(f *testing.F) {
	for _, j := range []openJob{
		{Format: jobFormat, Input: make([]byte, 32)},
		{Format: jobFormat, Kind: "TASK", Custody: consign.CustodySealed, Header: []byte("H"), Input: make([]byte, 32),
			CEK: []byte{1}, ResultKey: []byte{2}, Mark: []byte{3}, Workers: []sign.PublicKey{sign.FromEd25519Seed([32]byte{1}).Public()},
			Request: &consign.SubmitRequest{ID: consign.JobID{1}, Payload: []byte("a\nb"), Labels: map[string]string{"k": "v"},
				Wraps: []consign.Wrap{{Worker: consign.WorkerID{2}, Wrap: []byte("w")}}, Privacy: consign.PrivacyPrivate}},
	} {
		data, err := j.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := decodeJob(data)
		if err != nil {
			return
		}
		first, err := j.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeJob(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.encode(); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%q came back as %q, %v", first, second, err)
		}
	})
}
