package tools

import "strings"

// Recommended are what the packages that were chosen for wishes recommend, and neither the
// base nor the answer has, as further wishes: gcc without libc6-dev compiles nothing. What
// comes with those recommends is left out.
func (a *Answer) Recommended(base Base) []Wish {
	there := map[string]bool{}
	note := func(name string, r Relations) {
		there[name] = true
		list, _ := parseRelations(r.Provides, base.Architecture)
		for _, alternatives := range list {
			for _, p := range alternatives {
				there[p.name] = true
			}
		}
	}
	for _, p := range base.Packages {
		if !strings.HasSuffix(p.State, "config-files") && !strings.HasSuffix(p.State, "not-installed") {
			note(p.Name, p.Relations)
		}
	}
	for _, p := range a.Packages {
		note(p.Name, p.Relations)
	}
	var wishes []Wish
	for _, p := range a.Packages {
		if p.Wish == "" {
			continue
		}
		list, err := parseRelations(p.Recommends, base.Architecture)
		if err != nil {
			continue // nobody needs it
		}
		for _, alternatives := range list {
			w := Wish{Text: p.Name + " recommends " + spell(alternatives), By: p.Name}
			met := false
			for _, r := range alternatives {
				met = met || there[r.name]
				w.AnyOf = append(w.AnyOf, r.name)
			}
			if !met {
				wishes = append(wishes, w)
			}
		}
	}
	return wishes
}
