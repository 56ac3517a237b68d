package envs

import (
	"math/bits"
	"slices"
)

// maxExact is the number of targets up to which the fewest builds are found for certain.
const maxExact = 64

// cover finds the fewest of len(serves) builds such that each target has one that serves
// it, where serves[i] is the set of targets that build i serves, as bits. Of several such
// choices it is the one with the lowest numbers. Every build must serve its own target,
// i. There are at most maxExact.
//
// It is the minimum set cover: dominated rows and columns are dropped, what remains is
// searched by branch and bound.
func cover(serves []uint64) []int {
	c := &coverSearch{serves: serves}
	all := ^uint64(0) >> (maxExact - len(serves))
	if len(serves) == 0 {
		return nil
	}
	for limit := 1; ; limit++ {
		if chosen := c.within(all, limit, nil); chosen != nil {
			return c.first(all, len(chosen))
		}
	}
}

type coverSearch struct{ serves []uint64 }

// first is the choice of n builds with the lowest numbers: each is taken where the rest
// can be covered by n-1 others.
func (c *coverSearch) first(open uint64, n int) (chosen []int) {
	for i := range c.serves {
		if open == 0 {
			break
		}
		rest := open &^ c.serves[i]
		if rest == open {
			continue
		}
		if left := n - len(chosen) - 1; rest == 0 || left > 0 && c.within(rest, left, nil) != nil {
			chosen = append(chosen, i)
			open = rest
		}
	}
	return chosen
}

// within covers the open targets by at most n builds, or returns nil.
func (c *coverSearch) within(open uint64, n int, chosen []int) []int {
	if open == 0 {
		return append([]int{}, chosen...)
	}
	if n == 0 {
		return nil
	}
	useful := c.useful(open)
	most := 0
	for _, i := range useful {
		most = max(most, bits.OnesCount64(c.serves[i]&open))
	}
	if bits.OnesCount64(open) > n*most || !c.apart(open, useful, n) {
		return nil
	}
	// The target that the fewest serve has the fewest branches.
	branch := c.rarest(open, useful)
	slices.SortStableFunc(branch, func(a, b int) int {
		return bits.OnesCount64(c.serves[b]&open) - bits.OnesCount64(c.serves[a]&open)
	})
	for _, i := range branch {
		if found := c.within(open&^c.serves[i], n-1, append(chosen, i)); found != nil {
			return found
		}
	}
	return nil
}

// useful are the builds that serve an open target, but for those of which another serves
// all that they do.
func (c *coverSearch) useful(open uint64) (list []int) {
	for i, s := range c.serves {
		if s&open == 0 {
			continue
		}
		dominated := slices.ContainsFunc(list, func(j int) bool { return s&open&^c.serves[j] == 0 })
		if dominated {
			continue
		}
		list = slices.DeleteFunc(list, func(j int) bool { return c.serves[j]&open&^s == 0 })
		list = append(list, i)
	}
	return list
}

// apart reports whether no more than n open targets are found of which no two have a
// build in common: each such target takes a build of its own.
func (c *coverSearch) apart(open uint64, useful []int, n int) bool {
	for found := 0; open != 0; found++ {
		if found == n {
			return false
		}
		for _, i := range c.rarest(open, useful) {
			open &^= c.serves[i]
		}
	}
	return true
}

// rarest are the builds that serve the open target which the fewest serve.
func (c *coverSearch) rarest(open uint64, useful []int) (best []int) {
	for t := range len(c.serves) {
		if open&(1<<t) == 0 {
			continue
		}
		var by []int
		for _, i := range useful {
			if c.serves[i]&(1<<t) != 0 {
				by = append(by, i)
			}
		}
		if best == nil || len(by) < len(best) {
			best = by
		}
	}
	return best
}
