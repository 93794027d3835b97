package config

import "strings"

// suggest is the name that was most likely meant, or empty: the only one with the
// same last part or the same beginning, else the one that the fewest slips of the
// finger lead to.
func suggest(name string, known []string) string {
	name = strings.ToLower(brief(name, 64))
	_, last := cutLast(name)
	best, fewest := "", len(name)/4+2
	var alike []string
	for _, k := range known {
		lower := strings.ToLower(k)
		if d := slips(name, lower); d < fewest {
			best, fewest = k, d
		}
		if _, end := cutLast(lower); end == last || strings.HasPrefix(lower, name+"_") {
			alike = append(alike, k)
		}
	}
	if len(alike) == 1 {
		return alike[0]
	}
	return best
}

func cutLast(name string) (section, last string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// slips is how many letters must be inserted, removed, replaced or exchanged with
// their neighbour to make b of a (optimal string alignment).
func slips(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := [3][]int{make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)}
	before, above, row := rows[0], rows[1], rows[2]
	for j := range above {
		above[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, above[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(y)]
}
