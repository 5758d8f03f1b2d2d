//! Which detection is which track: the pairs whose likeness is largest in sum (Hungarian method, O(n³)).

/// At most so many of each; the rest is not matched. A picture has at most 300 boxes.
const MOST: usize = 300;
/// So unlike that it is never chosen over what is possible.
const IMPOSSIBLE: f32 = 1e4;

/// The best pairs of `rows` and `columns`. `likeness` is 0 to 1, or `None` where a pair cannot be.
pub(super) fn best(rows: usize, columns: usize, likeness: impl Fn(usize, usize) -> Option<f32>) -> Vec<(usize, usize)> {
    let (rows, columns) = (rows.min(MOST), columns.min(MOST));
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    let is_turned = rows > columns;
    let (short, long) = if is_turned { (columns, rows) } else { (rows, columns) };
    let of = |a: usize, b: usize| if is_turned { likeness(b, a) } else { likeness(a, b) };
    let costs: Vec<f32> =
        (0..short * long).map(|at| of(at / long, at % long).map_or(IMPOSSIBLE, |value| 1.0 - value)).collect();
    let chosen = hungarian(short, long, &costs);
    let pairs = chosen.into_iter().enumerate().filter(|(a, b)| costs[a * long + b] < IMPOSSIBLE);
    pairs.map(|(a, b)| if is_turned { (b, a) } else { (a, b) }).collect()
}

/// The column of each row at the least cost, with at least as many columns as rows: shortest augmenting paths with
/// potentials (Kuhn 1955, Munkres 1957). Index 0 of the work arrays is no row and no column.
fn hungarian(rows: usize, columns: usize, costs: &[f32]) -> Vec<usize> {
    let (mut of_row, mut of_column) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let (mut row_of, mut way) = (vec![0; columns + 1], vec![0; columns + 1]);
    for row in 1..=rows {
        row_of[0] = row;
        let (mut column, mut least, mut is_used) = (0, vec![f32::INFINITY; columns + 1], vec![false; columns + 1]);
        while row_of[column] != 0 {
            is_used[column] = true;
            let (here, mut step, mut next) = (row_of[column], f32::INFINITY, 0);
            for other in (1..=columns).filter(|other| !is_used[*other]) {
                let cost = costs[(here - 1) * columns + other - 1] - of_row[here] - of_column[other];
                if cost < least[other] {
                    (least[other], way[other]) = (cost, column);
                }
                if least[other] < step {
                    (step, next) = (least[other], other);
                }
            }
            for other in 0..=columns {
                if is_used[other] {
                    of_row[row_of[other]] += step;
                    of_column[other] -= step;
                } else {
                    least[other] -= step;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[way[column]];
            column = way[column];
        }
    }
    let mut chosen = vec![0; rows];
    for (column, row) in row_of.into_iter().enumerate().skip(1).filter(|(_, row)| *row > 0) {
        chosen[row - 1] = column - 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_counts_and_not_the_best_pair() {
        // Greedy would take (0, 0) with 0.9, and leave (1, 1) with 0.1.
        let table = [[0.9, 0.8], [0.8, 0.1]];
        assert_eq!(best(2, 2, |row, column| Some(table[row][column])), [(0, 1), (1, 0)]);
        assert_eq!(best(2, 2, |row, column| (row == column).then_some(0.3)), [(0, 0), (1, 1)]);
        assert_eq!(best(3, 1, |row, _| Some([0.1, 0.5, 0.4][row])), [(1, 0)]);
        assert_eq!(best(1, 3, |_, column| Some([0.1, 0.5, 0.4][column])), [(0, 1)]);
        assert_eq!(best(2, 2, |_, _| None), []);
        assert_eq!(best(0, 2, |_, _| Some(1.0)), []);
    }

    #[test]
    fn it_is_the_best_of_all() {
        fn all(rows: usize, used: &mut Vec<usize>, columns: usize, costs: &[f32]) -> f32 {
            let row = used.len();
            if row == rows {
                return used.iter().enumerate().map(|(row, column)| costs[row * columns + column]).sum();
            }
            let mut least = f32::INFINITY;
            for column in 0..columns {
                if !used.contains(&column) {
                    used.push(column);
                    least = least.min(all(rows, used, columns, costs));
                    used.pop();
                }
            }
            least
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..300 {
            let rows = rng.usize(1..5);
            let columns = rng.usize(rows..6);
            let costs: Vec<f32> = (0..rows * columns).map(|_| rng.f32()).collect();
            let chosen = hungarian(rows, columns, &costs);
            let sum: f32 = chosen.iter().enumerate().map(|(row, column)| costs[row * columns + column]).sum();
            assert!((sum - all(rows, &mut Vec::new(), columns, &costs)).abs() < 1e-5, "{rows}x{columns} {costs:?}");
        }
    }
}
