package task

import (
	"cmp"
	"context"
	"slices"
)

// The graph of sentences is sparse, so that its cost grows with the length of
// the text and not with its square.
const (
	// linkReach: a term links a sentence with the nearest earlier ones that
	// hold it. Only frequent terms, which say little, have more.
	linkReach = 16
	// linkCap keeps the strongest links that each sentence makes backwards.
	linkCap = 24
	// rounds of the power iteration. A fixed number, since "until it settles"
	// would be one more thing to agree on.
	rounds = 30
)

// vector is a sentence as TF-IDF weights; ids ascend.
type vector struct {
	terms  []termWeight
	length uint64 // Euclidean, fixed point
}

type termWeight struct {
	id     int
	weight uint64 // idf, fixed point: in one sentence every term counts once
}

// link joins two sentences; weight is their cosine in fixed point.
type link struct {
	to     int
	weight uint64
}

// vectors weighs the terms of sentences against each other.
func vectors(bags [][]string) []vector {
	ids := map[string]int{}
	var df []int
	list := make([]vector, len(bags))
	for i, bag := range bags {
		seen := map[int]bool{}
		for _, term := range bag {
			id, ok := ids[term]
			if !ok {
				id = len(df)
				ids[term] = id
				df = append(df, 0)
			}
			if !seen[id] {
				seen[id] = true
				df[id]++
				list[i].terms = append(list[i].terms, termWeight{id: id})
			}
		}
	}
	for i := range list {
		list[i].weigh(df, len(bags))
	}
	return list
}

func (v *vector) weigh(df []int, n int) {
	slices.SortFunc(v.terms, func(a, b termWeight) int { return cmp.Compare(a.id, b.id) })
	square := uint64(0)
	for i := range v.terms {
		w := idf(n, df[v.terms[i].id])
		v.terms[i].weight = w
		square += w * w >> 16
	}
	v.length = isqrt(square << 16)
}

// cosine returns the similarity of two vectors, at most one.
func (v *vector) cosine(u *vector) uint64 {
	dot, i, j := uint64(0), 0, 0
	for i < len(v.terms) && j < len(u.terms) {
		switch a, b := v.terms[i], u.terms[j]; {
		case a.id < b.id:
			i++
		case a.id > b.id:
			j++
		default:
			dot += a.weight * b.weight >> 16
			i, j = i+1, j+1
		}
	}
	return ratio(dot, v.length, u.length)
}

// ratio returns dot/(a*b) in fixed point; 0 where a or b is.
func ratio(dot, a, b uint64) uint64 {
	if a == 0 || b == 0 {
		return 0
	}
	return min(dot<<16/(a*b>>16+1), one)
}

// links builds the graph: two sentences are as near as their terms are alike.
func links(ctx context.Context, list []vector) ([][]link, error) {
	graph := make([][]link, len(list))
	recent := map[int][]int{} // term: the last sentences that held it
	dots := make([]uint64, len(list))
	for i := range list {
		if i%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for _, back := range backLinks(list, i, recent, dots) {
			graph[i] = append(graph[i], back)
			graph[back.to] = append(graph[back.to], link{i, back.weight})
		}
		remember(recent, &list[i], i)
	}
	return graph, nil
}

// backLinks finds the strongest links from sentence i to earlier ones. dots is
// scratch, all zero before and after.
func backLinks(list []vector, i int, recent map[int][]int, dots []uint64) []link {
	var near []int
	for _, t := range list[i].terms {
		for _, j := range recent[t.id] {
			if dots[j] == 0 {
				near = append(near, j)
			}
			dots[j] += t.weight*t.weight>>16 + 1
		}
	}
	found := make([]link, 0, len(near))
	for _, j := range near {
		found = append(found, link{j, ratio(dots[j], list[i].length, list[j].length)})
		dots[j] = 0
	}
	slices.SortFunc(found, func(a, b link) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.to, b.to))
	})
	return found[:min(len(found), linkCap)]
}

func remember(recent map[int][]int, v *vector, i int) {
	for _, t := range v.terms {
		held := recent[t.id]
		if len(held) == linkReach {
			copy(held, held[1:])
			held = held[:linkReach-1]
		}
		recent[t.id] = append(held, i)
	}
}

// pageRank scores the nodes of a weighted, undirected graph by power iteration
// with damping .85, in whole numbers; an average node has 1<<32. It is TextRank
// (Mihalcea and Tarau 2004) over LexRank's similarity (Erkan and Radev 2004,
// continuous LexRank), with restarts that favour the first sentences, because
// the opening of a text is its best summary more often than any other part (the
// "lead" that summarisers are measured against).
func pageRank(ctx context.Context, graph [][]link) ([]uint64, error) {
	const mean = 1 << 32
	out := make([]uint64, len(graph))
	rank := make([]uint64, len(graph))
	for i, edges := range graph {
		rank[i] = mean
		for _, l := range edges {
			out[i] += l.weight
		}
	}
	for range rounds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		next := make([]uint64, len(graph))
		for i, edges := range graph {
			sum := uint64(0)
			for _, l := range edges {
				if out[l.to] > 0 {
					sum += rank[l.to] / out[l.to] * l.weight
				}
			}
			next[i] = mean/100*restart(i) + sum/100*85
		}
		rank = next
	}
	return rank, nil
}

// restart is the share of a walk's restarts that sentence i gets, in per cent of
// an average sentence's rank: 15 for most, and up to nine times that in front.
func restart(i int) uint64 { return 15 + 120/uint64((i+1)*(i+1)) }
