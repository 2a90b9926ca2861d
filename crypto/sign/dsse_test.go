package sign

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

const testType = "application/vnd.consign.record+json"

func TestPAE(t *testing.T) {
	for _, tc := range []struct{ payloadType, payload, want string }{
		// The example of the DSSE specification (protocol.md).
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"},
		{"", "", "DSSEv1 0  0 "},
		{"é", "\x00", "DSSEv1 2 é 1 \x00"},
	} {
		if got := string(PAE(tc.payloadType, []byte(tc.payload))); got != tc.want {
			t.Errorf("PAE = %q, want %q", got, tc.want)
		}
	}
	pae := PAE(testType, []byte(`{"a":1}`))
	sum := sha256.Sum256(pae)
	if got := hex.EncodeToString(sum[:]); len(pae) != 55 || got != "82f70dfadbdbbd8c282d818acdb23fd8fa5cb5036378323a4480c4a1c9f1b5fa" {
		t.Errorf("%d bytes with SHA-256 %s", len(pae), got)
	}
}

func TestEnvelope(t *testing.T) {
	for algorithm, id := range identities() {
		t.Run(algorithm, func(t *testing.T) {
			e, err := SignEnvelope(id, testType, []byte(`{"a":1}`))
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var back Envelope
			if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, e) {
				t.Fatalf("%s came back as %+v, %v", data, back, err)
			}
			if payload, err := back.Verify(testType, id.Public()); err != nil || string(payload) != `{"a":1}` {
				t.Errorf("Verify = %q, %v", payload, err)
			}
			if got := hex.EncodeToString(sum(back.Name())); got != "82f70dfadbdbbd8c282d818acdb23fd8fa5cb5036378323a4480c4a1c9f1b5fa" {
				t.Errorf("Name = %s", got)
			}
		})
	}
}

func sum(b [32]byte) []byte { return b[:] }

// A wrong type is reported before the signatures are looked at, and even where
// they hold.
func TestCosignCVE202235929_TypeIsCheckedFirst(t *testing.T) {
	id := Generate()
	e, err := SignEnvelope(id, testType, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Verify("text/plain", id.Public()); !errors.Is(err, ErrType) {
		t.Errorf("a signed envelope of another type: %v", err)
	}
	e.Signatures = nil
	if _, err := e.Verify("text/plain", PublicKey{}); !errors.Is(err, ErrType) {
		t.Errorf("an unsigned envelope of another type: %v", err)
	}
	e, err = SignEnvelope(id, testType, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	e.PayloadType = "text/plain" // the type is under the signature
	if _, err := e.Verify("text/plain", id.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed type: %v", err)
	}
}

// A key ID never chooses the key, and never refuses it.
func TestKeyIDIsAHint(t *testing.T) {
	id, other := Generate(), Generate()
	e, err := SignEnvelope(id, testType, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	otherEnvelope, err := SignEnvelope(other, testType, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	e.Signatures[0].KeyID = otherEnvelope.Signatures[0].KeyID
	if _, err := e.Verify(testType, id.Public()); err != nil {
		t.Errorf("the signer's key under another's key ID: %v", err)
	}
	if _, err := e.Verify(testType, other.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("the key that the key ID names: %v", err)
	}
	e.Signatures = append(otherEnvelope.Signatures, e.Signatures...)
	if _, err := e.Verify(testType, id.Public()); err != nil {
		t.Errorf("the second of two signatures: %v", err)
	}
	if _, err := (Envelope{PayloadType: testType, Payload: e.Payload}).Verify(testType, id.Public()); !errors.Is(err, ErrEnvelope) {
		t.Errorf("no signature: %v", err)
	}
	for len(e.Signatures) <= MaxSignatures {
		e.Signatures = append(e.Signatures, e.Signatures[0])
	}
	if _, err := e.Verify(testType, id.Public()); !errors.Is(err, ErrEnvelope) {
		t.Errorf("%d signatures: %v", len(e.Signatures), err)
	}
}

func TestUnmarshalEnvelope(t *testing.T) {
	const rest = `"payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]`
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{`{"payload":"eA==",` + rest + `}`, true},
		{` { ` + rest + `, "payload" : "" } `, true},
		{`{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA=="}]}`, true},
		{`{"payload":"eA==",` + rest + `}{}`, false},
		{`{"payload":"eA==",` + rest + `,"payload":"eA=="}`, false},
		{`{"payload":"eA==",` + rest + `,"Payload":"eA=="}`, false},
		{`{"Payload":"eA==",` + rest + `}`, false},
		{`{"payload":"eA==",` + rest + `,"more":1}`, false},
		{`{` + rest + `}`, false},
		{`{"payload":null,` + rest + `}`, false},
		{`{"payload":"eA",` + rest + `}`, false},     // no padding
		{`{"payload":"eB==",` + rest + `}`, false},   // bits that are not zero after the end
		{`{"payload":"eA\n==",` + rest + `}`, false}, // a line break
		{`{"payload":"-_-_",` + rest + `}`, false},   // the URL's alphabet
		{`{"payload":"eA==","payloadType":null,"signatures":[{"sig":"AA=="}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":null}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[{}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[{"sig":""}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA==","sig":"AA=="}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA==","cert":"x"}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA==","keyid":null}]}`, false},
		{`{"payload":"eA==","payloadType":"t","signatures":[` + strings.Repeat(`{"sig":"AA=="},`, 16) + `{"sig":"AA=="}]}`, false},
		{`[]`, false},
		{``, false},
		{strings.Repeat(" ", MaxEnvelope) + `{"payload":"eA==",` + rest + `}`, false},
	} {
		kept := Envelope{PayloadType: "kept"}
		e := kept
		err := e.UnmarshalJSON([]byte(tc.text))
		if (err == nil) != tc.ok {
			t.Errorf("%.200s: %v, want ok %v", tc.text, err, tc.ok)
		}
		if err != nil && (!errors.Is(err, ErrEnvelope) || !reflect.DeepEqual(e, kept)) {
			t.Errorf("%.200s: %v, and %+v", tc.text, err, e)
		}
	}
}

// MarshalJSON writes the bytes that encoding/json does, whatever the texts hold.
func TestMarshalEnvelopeBytes(t *testing.T) {
	type signatureJSON struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	}
	for _, e := range []Envelope{
		{Payload: []byte{}},
		{PayloadType: "a \"type\" <&>\n\u2028\u00e9", Payload: []byte("{}"), Signatures: []Signature{{KeyID: "", Sig: []byte{}}}},
		{PayloadType: testType, Payload: []byte("\xff\xfe\xfd"), Signatures: []Signature{{KeyID: "k\\", Sig: []byte{1}}, {KeyID: "other", Sig: make([]byte, 64)}}},
	} {
		signatures := make([]signatureJSON, len(e.Signatures))
		for i, s := range e.Signatures {
			signatures[i] = signatureJSON(s)
		}
		want, err := json.Marshal(struct {
			Payload     []byte          `json:"payload"`
			PayloadType string          `json:"payloadType"`
			Signatures  []signatureJSON `json:"signatures"`
		}{e.Payload, e.PayloadType, signatures})
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.MarshalJSON()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	if got, err := (Envelope{}).MarshalJSON(); err != nil || string(got) != `{"payload":"","payloadType":"","signatures":[]}` {
		t.Errorf("the empty envelope is %s, %v", got, err)
	}
}

func TestMarshalEnvelopeRefusesBadText(t *testing.T) {
	for _, e := range []Envelope{{PayloadType: "\xff"}, {Signatures: []Signature{{KeyID: "\xff"}}}} {
		if _, err := json.Marshal(e); !errors.Is(err, ErrEnvelope) {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	e, err := SignEnvelope(Generate(), testType, []byte(`{"a":1}`))
	if err != nil {
		f.Fatal(err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"payload":"","payloadType":"\ud800","signatures":[{"sig":"AA=="}]}`))
	stranger := Generate().Public()
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Envelope
		if err := e.UnmarshalJSON(data); err != nil {
			if !errors.Is(err, ErrEnvelope) {
				t.Errorf("%v does not wrap ErrEnvelope", err)
			}
			return
		}
		if _, err := e.Verify(e.PayloadType, stranger); err == nil {
			t.Error("verified with a key that never signed")
		}
		written, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Envelope
		if err := json.Unmarshal(written, &back); err != nil || !bytes.Equal(PAE(back.PayloadType, back.Payload), PAE(e.PayloadType, e.Payload)) {
			t.Errorf("%s came back as %+v, %v", written, back, err)
		}
	})
}
