package seal_test

import (
	"fmt"

	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// A PRIVATE job from a submitter to a worker that it pinned, and the result
// back. All that lies between them sees header, ciphertext, wrap, signature and
// result.
func Example() {
	submitter := sign.Generate()
	resultKey, err := seal.GenerateKey(seal.MLKEM768X25519)
	check(err)
	workerID := sign.Generate().Public().ID()
	workerKey, err := seal.GenerateKey(seal.MLKEM768X25519)
	check(err)
	job, claim, queue := [16]byte{1}, [16]byte{2}, [32]byte{3}

	// The submitter seals, signs, and wraps the job's key to the worker.
	cek := seal.NewCEK()
	header, ciphertext, err := seal.SealPayload(seal.Header{
		Queue: queue, Job: job, Submitter: submitter.Public().ID(), Kind: "LLM_INFER", Model: "llama3.1:8b",
		Privacy: seal.Private, Custody: seal.Sealed, Comparator: "none", ResultKey: resultKey.Public(),
	}, cek, []byte("Who am I?"))
	check(err)
	signature, err := seal.SignSubmission(submitter, header, ciphertext)
	check(err)
	purpose := seal.DirectWrap{Job: job, Worker: workerID, Header: seal.HeaderHash(header)}
	wrap, err := seal.Wrap(workerKey.Public(), purpose, cek)
	check(err)

	// The worker opens what it was assigned, and seals its result.
	got, err := seal.Unwrap(purpose, wrap, workerKey)
	check(err)
	h, payload, err := seal.OpenPayload(header, ciphertext, got, seal.Assignment{
		Queue: queue, Job: job, Kind: "LLM_INFER", Model: "llama3.1:8b", Chars: 9, Custody: seal.Sealed, Comparator: "none",
		Signature: signature,
		Pinned:    func(key [32]byte) bool { return key == submitter.Public().ID() },
	})
	check(err)
	info := seal.ResultInfo{Queue: queue, Job: job, Worker: workerID, Claim: claim, Input: seal.InputHash(header, ciphertext)}
	sealed, err := seal.SealResult(h.ResultKey, info, append(payload, " You tell me."...))
	check(err)

	// The submitter opens it.
	result, err := seal.OpenResult(resultKey, info, sealed)
	check(err)
	fmt.Printf("%s\n", result)
	// Output: Who am I? You tell me.
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
