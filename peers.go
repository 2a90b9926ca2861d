package consign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// peers are the queues that share a store and have workers. Each reads the
// tickets of its own shards first, so that they seldom try for the same. It is
// advice: who is believed to live and does not costs the others a look at the
// front of a lane, and two who believe in the same shard a conflict.
//
// A queue that has workers moves the version of its document with every look;
// one whose version stands still is gone. No clock is asked.
type peers struct {
	q      *Queue
	name   string
	seen   map[string]sighting
	shards uint16
}

// sighting is a peer's version, and for how many looks it has been that.
type sighting struct {
	version uint64
	looks   int
}

// peerGone is after how many looks, a second apart, a peer is gone.
const peerGone = 5

func newPeers(q *Queue) *peers {
	id := random16()
	return &peers{q: q, name: hex.EncodeToString(id[:]), seen: map[string]sighting{}, shards: AllShards}
}

// look shows that this queue is there, and tells the engine which shards are
// its own now. Only a store that hints at what others do has others. What
// cannot be read or written now is with the next look.
func (p *peers) look(ctx context.Context) {
	store := p.q.config.Store
	if _, shared := store.(Notifier); !shared {
		return
	}
	docs, err := store.Docs(ctx, DocPeer, "", 1000)
	if err != nil {
		return
	}
	var own uint64
	var alive []string
	seen := map[string]sighting{}
	for _, d := range docs {
		s := p.seen[d.Key]
		if s.version != d.Version {
			s = sighting{version: d.Version}
		}
		s.looks++
		seen[d.Key] = s
		switch {
		case d.Key == p.name:
			own = d.Version
		case s.looks <= peerGone:
			alive = append(alive, d.Key)
		case s.looks > 2*peerGone:
			_ = p.q.write(ctx, Change{Docs: []Doc{{Kind: DocPeer, Key: d.Key, Version: d.Version + 1}}})
		}
	}
	p.seen = seen
	if p.q.staffed.Load() {
		_ = p.q.write(ctx, Change{Docs: []Doc{{Kind: DocPeer, Key: p.name, Version: own + 1, Body: []byte("{}")}}})
	}
	if shards := shardsOf(p.name, alive); shards != p.shards {
		p.shards = shards
		p.q.inbox.push(inShards{shards})
	}
}

// shardsOf returns a queue's own shards: those for which it has the highest
// hash of all (rendezvous hashing), so that one who comes or goes moves no
// more of them than it has to. It returns all where there are more queues than
// shards and it has none.
func shardsOf(name string, others []string) (mask uint16) {
	for shard := range byte(Shards) {
		weight := func(name string) string {
			sum := sha256.Sum256(append([]byte{shard}, name...))
			return string(sum[:])
		}
		own, best := weight(name), true
		for _, other := range others {
			best = best && own > weight(other)
		}
		if best {
			mask |= 1 << shard
		}
	}
	if mask == 0 {
		return AllShards
	}
	return mask
}
