package seal

import "slices"

// allMutants lists every check of the package's readers and writers, but for
// those that only save work before another check refuses the same: the longest
// body of a bundle, the length of its worker_id, and the size of an RSA key that
// is to be made.
func allMutants() []mutant {
	return slices.Concat(boxMutants(), headerMutants(), keyMutants(), wrapMutants(), bundleMutants(), payloadMutants(),
		resultMutants(), compareMutants(), fileMutants())
}

func boxMutants() []mutant {
	const f = "box.go"
	return []mutant{
		without("a box shorter than its prefix", f, "if len(b) < boxPrefix {", "if false {"),
		without("the last chunk is marked", f, "n[boxPrefix+4] = lastByte(last)", "n[boxPrefix+4] = lastByte(false)"),
		without("chunks are numbered", f, "PutUint32(n[boxPrefix:], i)", "PutUint32(n[boxPrefix:], min(i, 0))"),
		without("an empty chunk", f, "if n <= chacha20poly1305.Overhead {", "if n < chacha20poly1305.Overhead {"),
		{"associated data", []edit{
			{f, "out = aead.Seal(out, nonce.at(i, left == 0), p, aad)", "out = aead.Seal(out, nonce.at(i, left == 0), p, nil)"},
			{f, "nonce.at(i, last), b[:n], aad)", "nonce.at(i, last), b[:n], nil)"}}},
		without("a chunk that is not authentic", f, "b[:n], aad)\n\t\tif err != nil {", "b[:n], aad)\n\t\tif err != nil && i == 0 {"),
		without("a length past the end", f, "if !ok || len(p)", "if !ok && len(p) == 0 || len(p)"),
		without("too much padding", f, "len(p) != padded(lpSize+len(m)) ||", ""),
		without("padding that is not zero", f, "!allZero(padding)", "!allZero(padding[:0])"),
		without("padding of many pages", f, "if !bytes.Equal(b[:len(zeros)], zeros[:]) {", "if false {"),
		without("padding of less than a page", f, "return bytes.Equal(b, zeros[:len(b)])", "return true"),
		without("nothing beside an error", f, "return nil, ErrPadding", "return m, ErrPadding"),
		without("a least length", f, "if n < minPadded {", "if n < 16 {"),
		without("Padmé", f, "mask := 1<<(e-s) - 1", "mask := 1<<(e-s-1) - 1"),
		without("a random prefix", f, "rand.Read(prefix[:])", "rand.Read(prefix[:0])"),
	}
}

func headerMutants() []mutant {
	const f = "header.go"
	return []mutant{
		without("the most bytes", f, "if len(header) > MaxHeader {", "if false {"),
		without("the format", f, "if string(r.next()) != headerLabel {", "if string(r.next()) == \"\" {"),
		without("the suite", f, "string(suite) != Suite {", "false {"),
		without("a cut before the suite", f, "r.bad {\n\t\treturn Header{}, headerError(\"it is cut short\")", "false {\n\t\treturn Header{}, headerError(\"it is cut short\")"),
		without("fields of a fixed length", f, "len(field) == len(dst) {", "len(field) <= len(dst) {"),
		without("nothing after the last field", f, "return !r.bad && len(r.rest) == 0", "return !r.bad"),
		without("all fields are there", f, "return !r.bad && len(r.rest) == 0", "return len(r.rest) == 0"),
		without("the longest text", f, "len(text.value) > MaxText || ", ""),
		without("UTF-8", f, "!utf8.ValidString(text.value)", "utf8.UTFMax < 0"),
		without("a text that is empty", f, ` || text.value == "" && text.name != "model" {`, " {"),
		without("a model may be empty", f, ` && text.name != "model"`, ""),
		without("a job of zeros", f, "case h.Job == [16]byte{}:", "case false:"),
		without("privacy", f, "case h.Privacy != Public && h.Privacy != Private:", "case false:"),
		without("custody", f, "case h.Custody != Sealed && h.Custody != Escrow && h.Custody != Transit:", "case false:"),
		without("more characters than bytes", f, "h.PromptBytes < uint64(h.Chars) || ", ""),
		without("more than four bytes a character", f, " || h.PromptBytes > 4*uint64(h.Chars):", ":"),
		without("a result key of HPKE's", f, "case h.ResultKey.hpke == nil:", "case false:"),
	}
}

func keyMutants() []mutant {
	const f = "key.go"
	return []mutant{
		without("a key shorter than its KEM", f, "func ParsePublicKey(b []byte) (PublicKey, error) {\n\tif len(b) < 2 {", "func ParsePublicKey(b []byte) (PublicKey, error) {\n\tif len(b) < 1 {"),
		without("an unknown KEM of a public key", f, "implementation := kem.hpke()\n\tif implementation == nil {\n\t\treturn PublicKey{}", "implementation := kem.hpke()\n\tif false {\n\t\treturn PublicKey{}"),
		without("a weak X25519 key", f, "if err := checkX25519(pk[len(pk)-32:]); err != nil {", "if err := checkX25519(pk[len(pk)-32:]); false {"),
		without("a weak X25519 half", f, "checkX25519(pk[len(pk)-32:])", "checkX25519(pk[:32])"),
		without("the top bit", f, "u[31]&0x80 != 0 ||\n\t\t", ""),
		without("p itself", f, "u[0] >= 0xed", "u[0] > 0xed"),
		without("small order", f, "if bytes.Equal(u, small) {", "if bytes.Equal(u, small) && u[0] == 0 {"),
		without("RSA keys that signatures refuse", f, "if _, err := sign.ParsePublicKey(sign.RSAPSS, der); err != nil {", "if _, err := sign.ParsePublicKey(sign.RSAPSS, der); false {"),
		without("one text for a key", f, "if parsed.String() != string(text) {", "if false {"),
		without("one form of a private key", f, "if !bytes.Equal(key.Bytes(), b) {", "if false {"),
		without("a private key shorter than its KEM", f, "func ParsePrivateKey(b []byte) (*PrivateKey, error) {\n\tif len(b) < 2 {", "func ParsePrivateKey(b []byte) (*PrivateKey, error) {\n\tif len(b) < 1 {"),
		without("an RSA private key", f, "if !ok {\n\t\t\treturn nil, keyError(", "if ok = true; !ok {\n\t\t\treturn nil, keyError("),
		without("no text of an empty key", f, "if k.bytes == \"\" {\n\t\treturn nil, keyError(", "if false {\n\t\treturn nil, keyError("),
		without("a key is not printed", f, `fmt.Fprintf(f, "PrivateKey(%s)", hex.EncodeToString(id[:]))`, `fmt.Fprintf(f, "PrivateKey(%s)", hex.EncodeToString(append(id[:], k.Bytes()...)))`),
		without("the KEM in a key's ID", f, "sum := sha256.Sum256([]byte(k.bytes))", "sum := sha256.Sum256([]byte(k.bytes[min(2, len(k.bytes)):]))"),
	}
}

func wrapMutants() []mutant {
	const f = "wrap.go"
	return []mutant{
		without("a content key of zeros is not wrapped", f, "if cek == (CEK{}) {", "if false {"),
		without("no key to wrap to", f, "return nil, nil, keyError(\"there is no key to wrap to\")", "return nil, secret, nil"),
		without("the label", f, "string(label) != wrapLabel {", "label == nil {"),
		without("five fields", f, "if !r.done() || ", "if "),
		without("an empty key is not at hand", f, "if key == nil || key.public.bytes == \"\" {", "if key == nil {"),
		without("no key", f, "if key == nil || key.public.bytes == \"\" {", "if key.public.bytes == \"\" {"),
		without("the KEM", f, "key.public.KEM() == KEM(binary.BigEndian.Uint16(kem[:])) && ", ""),
		without("the key ID", f, " && key.public.ID() == keyID {", " {"),
		without("an RSA wrap with an enc", f, "case len(enc) != 0:", "case false:"),
		{"OAEP's label", []edit{
			{f, "rand.Reader, k.rsa, secret, info)", "rand.Reader, k.rsa, secret, nil)"},
			{f, "nil, k.rsa, ct, info)", "nil, k.rsa, ct, nil)"}}},
		{"HPKE's info", []edit{
			{f, "enc, sender, err = hpke.NewSender(k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info)", "enc, sender, err = hpke.NewSender(k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), nil)"},
			{f, "hpke.NewRecipient(enc, k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info)", "hpke.NewRecipient(enc, k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), nil)"}}},
		without("what is inside is a content key", f, "cek, err := ParseCEK(b)\n\tif err != nil {", "cek, err := ParseCEK(b)\n\tif false {"),
		without("a vault wrap's job", f, "wrap/vault/v1\"), keyID[:], p.Job[:], ", "wrap/vault/v1\"), keyID[:], "),
		without("a vault wrap's header", f, "wrap/vault/v1\"), keyID[:], p.Job[:], p.Header[:])", "wrap/vault/v1\"), keyID[:], p.Job[:])"),
		without("a claim wrap's job", f, "wrap/claim/v1\"), keyID[:], p.Job[:], ", "wrap/claim/v1\"), keyID[:], "),
		without("a claim wrap's worker", f, "p.Worker[:], p.Claim[:], p.Header[:])", "p.Claim[:], p.Header[:])"),
		without("a claim wrap's claim", f, "p.Claim[:], p.Header[:])", "p.Header[:])"),
		without("a claim wrap's header", f, "p.Claim[:], p.Header[:])", "p.Claim[:])"),
		without("a direct wrap's job", f, "wrap/direct/v1\"), keyID[:], p.Job[:], ", "wrap/direct/v1\"), keyID[:], "),
		without("a direct wrap's worker", f, "keyID[:], p.Job[:], p.Worker[:], p.Header[:])", "keyID[:], p.Job[:], p.Header[:])"),
		without("a direct wrap's header", f, "keyID[:], p.Job[:], p.Worker[:], p.Header[:])", "keyID[:], p.Job[:], p.Worker[:])"),
		without("a purpose of its own", f, "\"consign/wrap/direct/v1\"", "\"consign/wrap/vault/v1\""),
	}
}

func bundleMutants() []mutant {
	const f = "bundle.go"
	return []mutant{
		without("one signature", f, "if len(e.Signatures) != 1 {", "if false {"),
		without("the signature", f, "body, err := e.Verify(BundleType, worker)\n\tif err != nil {", "body, err := e.Verify(BundleType, worker)\n\tif body = e.Payload; false {"),
		without("one form of a body", f, "if !bytes.Equal(again, body) {", "if bytes.Equal(again, nil) {"),
		without("the signer's bundle", f, "case worker.Algorithm() == \"\" || b.Worker != worker.ID():", "case worker.Algorithm() == \"\":"),
		without("no signer", f, "worker.Algorithm() == \"\" || ", ""),
		without("seq from 1", f, "case b.Seq < 1 || ", "case "),
		without("seq to 2^53-1", f, " || b.Seq > maxSeq:", ":"),
		without("not before 1970", f, "case b.NotBefore.UnixMicro() < 0 || ", "case "),
		without("not after 2^53", f, "b.NotAfter.UnixMicro() > maxSeq || ", ""),
		without("a time to live", f, "age <= 0 || ", ""),
		without("a month", f, " || age > MaxBundleAge:", ":"),
		without("a key at least", f, "case len(b.Keys) == 0 || ", "case "),
		without("eight keys", f, "case len(b.Keys) == 0 || len(b.Keys) > MaxBundleKeys:", "case len(b.Keys) == 0:"),
		without("an empty key", f, "case key.bytes == \"\":", "case false:"),
		without("a key twice", f, "b.Keys[:i], key.Equal", "b.Keys[:0], key.Equal"),
		without("the signing key", f, "sha256.Sum256([]byte(key.bytes[2:])) == b.Worker", "sha256.Sum256(nil) == b.Worker"),
		without("not yet valid", f, "return !now.Before(b.NotBefore) && now.Before(b.NotAfter)", "return now.Before(b.NotAfter)"),
		without("no longer valid", f, "return !now.Before(b.NotBefore) && now.Before(b.NotAfter)", "return !now.Before(b.NotBefore)"),
		without("the time", f, "if !b.Valid(now) {", "if false {"),
		without("a newer one was seen", f, "if b.Seq < highest {", "if false {"),
	}
}

func payloadMutants() []mutant {
	const f, s = "seal.go", "submission.go"
	return []mutant{
		without("a content key of 32 bytes", f, "if len(b) != 32 || ", "if "),
		without("a content key of zeros", f, " || [32]byte(b) == [32]byte{} {", " {"),
		without("no payload under zeros", f, "if cek == (CEK{}) {", "if false {"),
		without("a content key is not printed", f, `f.Write([]byte("CEK(secret)"))`, `f.Write(k.b[:])`),
		without("the job in its keys", f, "k.b[:], job[:], info, 32)", "k.b[:], nil, info, 32)"),
		without("keys for one thing each", f, "k.b[:], job[:], info, 32)", "k.b[:], job[:], info[:12], 32)"),
		without("the assignment", f, "if err := a.check(&h); err != nil {", "if err := a.check(&h); false {"),
		without("the queue", f, "case h.Queue != a.Queue:", "case false:"),
		without("the job", f, "case h.Job != a.Job:", "case false:"),
		without("the kind", f, "case h.Kind != a.Kind:", "case false:"),
		without("the model", f, "case h.Model != a.Model:", "case false:"),
		without("the characters", f, "case h.Chars != a.Chars:", "case false:"),
		without("the custody", f, "case h.Custody != a.Custody:", "case false:"),
		without("the comparator", f, "case h.Comparator != a.Comparator:", "case false:"),
		without("PRIVATE jobs", f, "if h.Privacy == Private {", "if false {"),
		without("no pins", f, "a.Pinned == nil || ", ""),
		without("the pinned submitter", f, "if a.Pinned == nil || !a.Pinned(h.Submitter) {", "if a.Pinned == nil {"),
		without("the submitter's signature", f, "if err := h.verifySubmission(header, ciphertext, a.Signature); err != nil {", "if err := h.verifySubmission(header, ciphertext, a.Signature); false {"),
		without("key commitment", f, "if err := cek.Check(*h); err != nil {", "if err := cek.Check(*h); false {"),
		without("the payload's bytes", f, "n != h.PromptBytes {", "false {"),
		without("the payload's characters", f, "uint64(n) != uint64(h.Chars) {", "false {"),
		without("the header as associated data", f, "Box(cek.derive(h.Job, infoPayload), header, payload)", "Box(cek.derive(h.Job, infoPayload), nil, payload)"),
		without("what is signed: the header", s, "h[:], c[:])", "h[:0], c[:])"),
		without("what is signed: the ciphertext", s, "h[:], c[:])", "h[:], c[:0])"),
		without("the header's submitter signs", s, "public.Algorithm() != sign.Ed25519 || public.ID() != h.Submitter {", "public.Algorithm() != sign.Ed25519 || h.Job == [16]byte{} {"),
		without("an ed25519 key signs", s, "public.Algorithm() != sign.Ed25519 || ", ""),
		without("the signature of a submission", s, "key.Verify(SubmissionMessage(header, ciphertext), signature); err != nil {", "key.Verify(SubmissionMessage(header, ciphertext), signature); false {"),
	}
}

func resultMutants() []mutant {
	const f, p = "result.go", "part.go"
	return []mutant{
		without("a result's queue", f, "i.Queue[:], i.Job[:]", "i.Job[:]"),
		without("a result's job", f, "i.Queue[:], i.Job[:], ", "i.Queue[:], "),
		without("a result's worker", f, "i.Worker[:], ", ""),
		without("a result's claim", f, "i.Claim[:], ", ""),
		without("a result's input", f, ", i.Input[:])", ")"),
		without("the input's header", f, "h.Write(header)\n", ""),
		without("the input's ciphertext", f, "h.Write(ciphertext)\n", ""),
		without("keys of their own", f, `exportPart   = "consign/part-key/v1"`, `exportPart   = exportResult`),
		without("results to RSA keys", f, "case !ok:", "case !ok && n > 0:"),
		without("a result cut in its enc", f, "case len(sealed) < n:", "case false:"),
		without("no result key", f, "if k.hpke == nil {", "if false {"),
		without("parts to RSA keys", p, "if key.hpke == nil {", "if false {"),
		without("no part after the last is sealed", p, "if s.ended {", "if false {"),
		without("one enc", p, "s.enc, s.ended = nil, last", "s.ended = last"),
		without("parts are numbered", p, "s.next++", ""),
		without("a part shorter than its mark", p, "if len(part) < markSize || ", "if "),
		without("a flag", p, " || part[markSize-1] > 1 {", " {"),
		without("a part twice", p, "case index < o.next:", "case false:"),
		without("a part after the last", p, "case o.ended:", "case false:"),
		without("a part missing", p, "case index > o.next:", "case false:"),
		without("the mark is authentic", p, "return append(context[:len(context):len(context)], mark...)", "return context"),
		without("a refused part changes nothing", p, "key := o.key\n", "key := o.key\n\to.next++\n"),
		without("the last part ends it", p, "o.key, o.ended = key, mark[markSize-1] == 1", "o.key = key"),
	}
}

func compareMutants() []mutant {
	const f = "compare.go"
	return []mutant{
		without("r", f, "c.T[:], c.R[:]))", "c.T[:]))"),
		without("r is random", f, "rand.Read(c.R[:])", "rand.Read(c.R[:0])"),
		without("what was committed to", f, "if subtle.ConstantTimeCompare(commit[:], tCommit[:]) != 1 {", "if commit == [32]byte{} {"),
		without("the commitment before the result", f, "if err := c.Verify(tCommit); err != nil {", "if err := c.Verify(tCommit); false {"),
		without("the result", f, "if subtle.ConstantTimeCompare(t[:], c.T[:]) != 1 {", "if t == [32]byte{} {"),
		without("the header's key", f, "if err := cek.Check(*h); err != nil {", "if err := cek.Check(*h); false {"),
		without("the header's key of a sketch", f, "if err := cek.Check(h); err != nil {", "if err := cek.Check(h); false {"),
		without("the comparator", f, "[]byte(h.Comparator), h.ClassOptions[:], canonical", "h.ClassOptions[:], canonical"),
		without("the class options", f, "h.ClassOptions[:], canonical", "canonical"),
		without("the sketch", f, "if len(sketch) != 0 {", "if false {"),
		without("the key", f, "cek.derive(h.Job, infoCompare),\n", "[32]byte{},\n"),
	}
}

func fileMutants() []mutant {
	const f = "file.go"
	return []mutant{
		without("no keys to save", f, "if len(keys) == 0 {\n\t\treturn keyError(", "if false {\n\t\treturn keyError("),
		without("an empty key to save", f, `if key == nil || key.public.bytes == "" {`, "if key == nil {"),
		without("a file that is none, or for others", f, "keyfile.Read(path, maxKeyFile)", "os.ReadFile(path)"),
		without("the longest file", f, "if len(data) > maxKeyFile {\n\t\treturn nil, ", "if false {\n\t\treturn nil, "),
		without("a file without keys", f, "if len(keys) == 0 || !bytes", "if !bytes"),
		without("nothing but keys in a file", f, "!bytes.Equal(bytes.TrimSpace(keyFile(keys)), bytes.TrimSpace(data)) {", "bytes.Equal(data, nil) {"),
		without("a file is replaced whole", f, "path, data, os.Rename)", "path, data, os.Link)"),
	}
}
