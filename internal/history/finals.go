package history

import "strconv"

// raw is the node of finals that were read from the second tier.
const raw = -1

// finals judges what was found when everything was still.
func (j *judge) finals() {
	j.v.Finals = len(j.h.Finals)
	inRedis := make(map[int32]int64)
	for _, f := range j.h.Finals {
		if f.Result == Wrong {
			j.v.violate(Validity, f.Key, j.h.Settled, "%s holds in the end a value of another key, or a damaged one", where(f))
		}
		if f.Node == raw && f.Result == Value {
			inRedis[f.Key] = f.Version
		}
	}
	for _, f := range j.h.Finals {
		name := j.h.Keys[f.Key].Name
		latest := int64(len(j.h.Commits[f.Key]))
		if f.Result != Value && f.Result != Absent {
			continue
		}
		if j.h.Keys[f.Key].Order == ByRedis {
			v, ok := inRedis[f.Key]
			if ok && (f.Result != Value || f.Version != v) {
				j.v.violate(NoStaleFill, f.Key, j.h.Settled, "%s holds %s of %s in the end, Redis %d", where(f), held(f), name, v)
			}
			continue
		}
		right := f.Result == Absent && j.h.absent(f.Key, latest) ||
			f.Result == Value && f.Version == latest && !j.h.absent(f.Key, latest)
		if right || f.Result == Value && j.resurrected(f.Key, f.Version, j.last(f.Key)) {
			continue
		}
		j.v.violate(NoStaleFill, f.Key, j.h.Settled, "%s holds %s of %s in the end, the database %d (deleted: %v)\n%s",
			where(f), held(f), name, latest, j.h.absent(f.Key, latest), j.explain(f.Key, nil))
	}
}

// last is the latest floor of a key.
func (j *judge) last(key int32) step {
	j.floors(key)
	return j.fleet.at(Never)
}

func where(f Final) string {
	if f.Node == raw {
		return "Redis"
	}
	return "node " + itoa(f.Node)
}

func held(f Final) string {
	if f.Result == Absent {
		return "the absence"
	}
	return "version " + strconv.FormatInt(f.Version, 10)
}

func itoa(n int16) string { return strconv.Itoa(int(n)) }
