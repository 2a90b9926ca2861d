package vaulttest

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

var contract = []check[consign.Vault]{
	{"Key", "Key returns the public key that submitters wrap their jobs' keys to, in the form of seal.PublicKey.Bytes.", func(t tester, v consign.Vault) {
		first := must[[]byte](t)(v.Key(t.Context()))
		if _, err := seal.ParsePublicKey(first); err != nil {
			t.Fatalf("it is no such key: %v", err)
		}
		if again := must[[]byte](t)(v.Key(t.Context())); !bytes.Equal(again, first) {
			t.Fatalf("it is another key each time")
		}
	}},

	{"Names", "Names returns the names of what the vault opens, each of 1 to 64 letters, digits and dashes.", func(t tester, v consign.Vault) {
		first := must[[]string](t)(v.Names(t.Context()))
		if len(first) == 0 {
			t.Fatalf("it has none")
		}
		for _, name := range first {
			if !regexp.MustCompile(`^[-0-9A-Za-z]{1,64}$`).MatchString(name) {
				t.Fatalf("%q is no name", name)
			}
		}
		ok(t, newDeposit(t, v, consign.NewJobID()).into(t, v))
		if again := must[[]string](t)(v.Names(t.Context())); !slices.Equal(again, first) {
			t.Fatalf("they were %q and are %q", first, again)
		}
	}},

	{"Deposit", "Deposit keeps the key of a job that is about to be submitted, by its wrap for the header H.", func(t tester, v consign.Vault) {
		one, other := newDeposit(t, v, consign.NewJobID()), newDeposit(t, v, consign.NewJobID())
		ok(t, one.into(t, v))
		ok(t, other.into(t, v))
		has(t, v, one)
		has(t, v, other)
	}},

	{"Headers", "It may be called again, and for several headers of one job, of which the job will have one: none takes the place of another.", func(t tester, v consign.Vault) {
		id := consign.NewJobID()
		first, second, third := newDeposit(t, v, id), newDeposit(t, v, id), newDeposit(t, v, id)
		for _, d := range []deposit{first, second, first, third, third, second} {
			ok(t, d.into(t, v))
		}
		for _, d := range []deposit{first, second, third} {
			has(t, v, d)
		}
		if got := released(t, v, id, second.header); got == first.cek {
			t.Fatalf("the key of one header was given out for another")
		}
	}},

	{"Refuse", "It returns a *FieldError for a wrap that does not open with the vault's key for this job and header.", func(t tester, v consign.Vault) {
		id := consign.NewJobID()
		d, other, elsewhere := newDeposit(t, v, id), newDeposit(t, v, id), newDeposit(t, v, consign.NewJobID())
		stranger := must[*seal.PrivateKey](t)(seal.GenerateKey(seal.MLKEM768X25519)).Public()
		strange := must[[]byte](t)(seal.Wrap(stranger, seal.VaultWrap{Job: id, Header: seal.HeaderHash(d.header)}, d.cek))
		transit := sealed(t, v, seal.Header{Job: id, Custody: seal.Transit}, seal.NewCEK())
		direct := sealed(t, v, seal.Header{Job: id, Custody: seal.Sealed}, seal.NewCEK())
		crossed := deposit{id: id, header: elsewhere.header}
		crossed.wrap = wrapped(t, v, crossed, elsewhere.cek)
		flipped := bytes.Clone(d.wrap)
		flipped[len(flipped)-1] ^= 1
		for _, bad := range []struct {
			what         string
			id           consign.JobID
			header, wrap []byte
		}{
			{"no wrap", id, d.header, nil},
			{"no header", id, nil, d.wrap},
			{"bytes that are no wrap", id, d.header, d.wrap[1:]},
			{"bytes that are no header", id, d.header[1:], d.wrap},
			{"an altered wrap", id, d.header, flipped},
			{"a wrap for another header", id, d.header, other.wrap},
			{"a wrap for another job", id, d.header, elsewhere.wrap},
			{"a wrap to another key", id, d.header, strange},
			{"another job's header and wrap", id, elsewhere.header, elsewhere.wrap},
			{"another job's header, wrapped for this one", id, crossed.header, crossed.wrap},
			{"another job's ID", elsewhere.id, d.header, d.wrap},
			{"a key that the header does not commit to", id, d.header, wrapped(t, v, d, seal.NewCEK())},
			{"a header of the custody transit", id, transit.header, transit.wrap},
			{"a header of the custody sealed", id, direct.header, direct.wrap},
		} {
			refused(t, bad.what, v.Deposit(t.Context(), bad.id, bad.header, bad.wrap))
			hasNot(t, v, bad.id, bad.header)
		}
		ok(t, d.into(t, v))
		refused(t, "a bad wrap where there is a good one", v.Deposit(t.Context(), id, d.header, other.wrap))
		has(t, v, d)
	}},

	{"Bounded", "for several headers of one job", func(t tester, v consign.Vault) {
		id := consign.NewJobID()
		var in []deposit
		for n := 0; ; n++ {
			if n > 64 {
				t.Fatalf("one job may have more than %d headers: a submitter can fill the vault with one ID", n)
			}
			d := newDeposit(t, v, id)
			if err := d.into(t, v); err != nil {
				refused(t, "a header too many", err)
				hasNot(t, v, id, d.header)
				break
			}
			in = append(in, d)
		}
		if len(in) < 2 {
			t.Fatalf("only %d headers of one job are kept", len(in))
		}
		for _, d := range in {
			ok(t, d.into(t, v))
			has(t, v, d)
		}
	}},

	{"Seal", "Seal seals a payload that came in plain, in the custody transit, and keeps its key as Deposit does.", func(t tester, v consign.Vault) {
		r := request(consign.NewJobID(), nil)
		s := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
		if bytes.Contains(s.Header, r.Payload) || bytes.Contains(s.Payload, r.Payload) {
			t.Fatalf("the payload can be read")
		}
		h, payload, _ := opened(t, v, r, s)
		if !bytes.Equal(payload, r.Payload) {
			t.Fatalf("the worker opened %q", payload)
		}
		if h.Submitter != r.Submitter || h.Privacy != seal.Public {
			t.Fatalf("the header is of submitter %x and %s", h.Submitter, h.Privacy)
		}
		// As often as it is asked, for a caller whose submit failed tries again.
		for range 20 {
			again := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
			opened(t, v, r, again)
		}
		opened(t, v, r, s)
	}},

	{"SealRefuse", "Seal seals a payload that came in plain", func(t tester, v consign.Vault) {
		r := request(consign.NewJobID(), []byte("no key"))
		_, err := v.Seal(t.Context(), r)
		refused(t, "a client's key that is none", err)
		r.ClientKey, r.Kind = nil, ""
		_, err = v.Seal(t.Context(), r)
		refused(t, "no kind", err)
	}},

	{"ClientKey", "A result of such a job is sealed to r.ClientKey or, without one, to a key that the vault keeps.", func(t tester, v consign.Vault) {
		client := must[*seal.PrivateKey](t)(seal.GenerateKey(seal.X25519))
		r := request(consign.NewJobID(), client.Public().Bytes())
		s := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
		_, _, result := opened(t, v, r, s)
		if got := must[[]byte](t)(seal.OpenResult(client, resultInfo(result), result.Result)); string(got) != "the result" {
			t.Fatalf("the client opened %q", got)
		}
		if _, err := v.OpenResult(t.Context(), result); err == nil {
			t.Fatalf("the vault opened a result that is sealed to the client")
		}
	}},

	{"OpenPayload", "OpenPayload opens a payload that Seal returned. ErrKeyGone.", func(t tester, v consign.Vault) {
		r := request(consign.NewJobID(), nil)
		s := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
		if got := must[[]byte](t)(v.OpenPayload(t.Context(), r.Job, s)); !bytes.Equal(got, r.Payload) {
			t.Fatalf("it is %q", got)
		}
		if _, err := v.OpenPayload(t.Context(), consign.NewJobID(), s); err == nil {
			t.Fatalf("it opens for another job")
		}
		d := newDeposit(t, v, consign.NewJobID())
		ok(t, d.into(t, v))
		if _, err := v.OpenPayload(t.Context(), d.id, consign.SealedPayload{Header: d.header, Payload: d.payload}); err == nil {
			t.Fatalf("it opens what the submitter sealed")
		}
		ok(t, v.Shred(t.Context(), r.Job))
		gone(t, second(v.OpenPayload(t.Context(), r.Job, s)))
	}},

	{"OpenResult", "OpenResult opens the result of a job that Seal sealed without a ClientKey. ErrKeyGone; ErrBadResult for bytes that do not open, which is the worker's doing.", func(t tester, v consign.Vault) {
		r := request(consign.NewJobID(), nil)
		s := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
		other := must[consign.SealedPayload](t)(v.Seal(t.Context(), request(consign.NewJobID(), nil)))
		_, _, result := opened(t, v, r, s)
		if got := must[[]byte](t)(v.OpenResult(t.Context(), result)); string(got) != "the result" {
			t.Fatalf("it is %q", got)
		}
		for what, alter := range map[string]func(*consign.SealedResult){
			"another claim":  func(r *consign.SealedResult) { r.Claim.Claim = consign.NewClaimID() },
			"another worker": func(r *consign.SealedResult) { r.Worker[0]++ },
			"another queue":  func(r *consign.SealedResult) { r.Queue[0]++ },
			"another input":  func(r *consign.SealedResult) { r.Input.Payload = other.Payload },
			"another header": func(r *consign.SealedResult) { r.Input.Header = other.Header },
		} {
			altered := result
			alter(&altered)
			if _, err := v.OpenResult(t.Context(), altered); err == nil {
				t.Fatalf("it opens for %s", what)
			}
		}
		garbage := result
		garbage.Result = []byte("garbage")
		if _, err := v.OpenResult(t.Context(), garbage); !errors.Is(err, consign.ErrBadResult) {
			t.Fatalf("of garbage it says %v, not ErrBadResult", err)
		}
		ok(t, v.Shred(t.Context(), r.Job))
		gone(t, second(v.OpenResult(t.Context(), result)))
	}},

	{"Release", "Release returns the key of the job with that header, wrapped to the worker that holds the claim, for the assignment.", func(t tester, v consign.Vault) {
		d := newDeposit(t, v, consign.NewJobID())
		ok(t, d.into(t, v))
		w, other := newWorker(t), newWorker(t)
		claim := consign.Claim{Job: d.id, Claim: consign.NewClaimID()}
		wrap := must[[]byte](t)(release(t, v, claim, d.header, w))
		if got := must[seal.CEK](t)(seal.Unwrap(purpose(claim, d.header, w), wrap, w.key)); got != d.cek {
			t.Fatalf("it is another key")
		}
		if bytes.Contains(wrap, d.cek.Bytes()) {
			t.Fatalf("the key can be read")
		}
		if _, err := seal.Unwrap(purpose(claim, d.header, w), wrap, other.key); err == nil {
			t.Fatalf("another worker opens it")
		}
		later := consign.Claim{Job: d.id, Claim: consign.NewClaimID()}
		if _, err := seal.Unwrap(purpose(later, d.header, w), wrap, w.key); err == nil {
			t.Fatalf("it opens for another claim")
		}
	}},

	{"NotReleased", "ErrKeyGone fails the job. Any other error gives the claim back: the job goes to another worker.", func(t tester, v consign.Vault) {
		d, absent := newDeposit(t, v, consign.NewJobID()), newDeposit(t, v, consign.NewJobID())
		ok(t, d.into(t, v))
		hasNot(t, v, absent.id, absent.header)
		hasNot(t, v, d.id, absent.header)
		now, identity := time.Now(), sign.Generate()
		good := workerWith(t, identity, now.Add(-time.Hour), now.Add(time.Hour))
		bare, foreign, posing, altered := good, good, good, good
		bare.KeyBundle = nil
		foreign.KeyBundle = newWorker(t).KeyBundle
		posing.ID[0]++
		altered.KeyBundle = bytes.Replace(good.KeyBundle, []byte(`"sig":"`), []byte(`"sig":"A`), 1)
		for what, w := range map[string]worker{
			"no bundle":                           bare,
			"another worker's bundle":             foreign,
			"a signing key that is another's":     posing,
			"a bundle that was altered":           altered,
			"a bundle that is not valid any more": workerWith(t, identity, now.Add(-48*time.Hour), now.Add(-24*time.Hour)),
			"a bundle that is not valid yet":      workerWith(t, identity, now.Add(24*time.Hour), now.Add(48*time.Hour)),
		} {
			if _, err := release(t, v, consign.Claim{Job: d.id, Claim: consign.NewClaimID()}, d.header, w); err == nil {
				t.Fatalf("a key was released to a worker with %s", what)
			} else if errors.Is(err, consign.ErrKeyGone) {
				t.Fatalf("the job fails for a worker with %s: %v", what, err)
			}
		}
		has(t, v, d)
	}},

	{"Shred", "Shred destroys a job's keys, those of all its headers", func(t tester, v consign.Vault) {
		id := consign.NewJobID()
		first, second, other := newDeposit(t, v, id), newDeposit(t, v, id), newDeposit(t, v, consign.NewJobID())
		for _, d := range []deposit{first, second, other} {
			ok(t, d.into(t, v))
		}
		r := request(id, nil)
		s := must[consign.SealedPayload](t)(v.Seal(t.Context(), r))
		ok(t, v.Shred(t.Context(), id))
		for _, header := range [][]byte{first.header, second.header, s.Header} {
			hasNot(t, v, id, header)
		}
		has(t, v, other)
	}},

	{"ShredAgain", "It must succeed where they are gone already.", func(t tester, v consign.Vault) {
		d := newDeposit(t, v, consign.NewJobID())
		ok(t, v.Shred(t.Context(), d.id))
		ok(t, d.into(t, v))
		ok(t, v.Shred(t.Context(), d.id))
		ok(t, v.Shred(t.Context(), d.id))
		hasNot(t, v, d.id, d.header)
	}},

	{"Goroutines", "Methods may be called from many goroutines.", func(t tester, v consign.Vault) {
		const n = 16
		id := consign.NewJobID()
		shared := newDeposit(t, v, id)
		own := make([]deposit, n)
		for i := range own {
			own[i] = newDeposit(t, v, consign.NewJobID())
		}
		errs := make([]error, n)
		var all sync.WaitGroup
		for i, d := range own {
			all.Go(func() {
				if errs[i] = v.Deposit(t.Context(), d.id, d.header, d.wrap); errs[i] != nil {
					return
				}
				if errs[i] = v.Deposit(t.Context(), id, shared.header, shared.wrap); errs[i] != nil {
					return
				}
				if i%2 == 0 {
					errs[i] = v.Shred(t.Context(), d.id)
				}
			})
		}
		all.Wait()
		for _, err := range errs {
			ok(t, err)
		}
		has(t, v, shared)
		for i, d := range own {
			if i%2 == 0 {
				hasNot(t, v, d.id, d.header)
			} else {
				has(t, v, d)
			}
		}
	}},
}
