//! Training data: named columns of the same length, the target, and the rows' places in time.

use std::fmt;
use std::ops::Range;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The values of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Numbers; NaN is missing.
    Numbers(Vec<f64>),
    /// Categories.
    Categories(Categories),
}

/// A column of categories: each distinct value once, and a code for each row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Categories {
    values: Vec<String>,
    codes: Vec<Option<u32>>,
}

impl Categories {
    /// Categories from the value of each row; `None` is missing. Values are numbered in the order of their text, so that the
    /// codes do not depend on the order of the rows.
    pub fn from_rows<S: AsRef<str>>(rows: &[Option<S>]) -> Self {
        let mut values: Vec<String> = rows.iter().flatten().map(|value| value.as_ref().to_owned()).collect();
        values.sort_unstable();
        values.dedup();
        let code = |value: &S| values.binary_search_by(|known| known.as_str().cmp(value.as_ref())).ok();
        let codes = rows.iter().map(|row| row.as_ref().and_then(code).map(|code| code as u32)).collect();
        Self { values, codes }
    }

    /// Categories from distinct values, and for each row the index of its value, or `None` where it is missing.
    ///
    /// # Errors
    /// [`Error::Rows`] where a code is not below the number of values, or a value occurs twice.
    pub fn from_codes(values: Vec<String>, codes: Vec<Option<u32>>) -> Result<Self> {
        let mut sorted: Vec<&String> = values.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Rows(format!("category {:?} is listed twice; list each value once", twice[0])));
        }
        let outside = |code: &Option<u32>| code.is_some_and(|code| code as usize >= values.len());
        match codes.iter().position(outside) {
            Some(row) => Err(Error::Rows(format!("row {row} has a code for which there is no category"))),
            None => Ok(Self { values, codes }),
        }
    }

    /// The distinct values; codes are their indices.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// The code of each row; `None` is missing.
    pub fn codes(&self) -> &[Option<u32>] {
        &self.codes
    }
}

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Numbers.
    Numbers,
    /// Categories.
    Categories,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Numbers => "numbers",
            Self::Categories => "categories",
        })
    }
}

impl Column {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Numbers(_) => Kind::Numbers,
            Self::Categories(_) => Kind::Categories,
        }
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(values) => values.len(),
            Self::Categories(categories) => categories.codes.len(),
        }
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of a range within the column.
    fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::Numbers(values) => Self::Numbers(values[range].to_vec()),
            Self::Categories(Categories { values, codes }) => {
                Self::Categories(Categories { values: values.clone(), codes: codes[range].to_vec() })
            }
        }
    }
}

/// Columns by name, in order, with the same number of rows each. No number is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: IndexMap<String, Column>,
    rows: usize,
}

impl Table {
    /// A table of columns.
    ///
    /// # Errors
    /// [`Error::Column`] where a name occurs twice, a column has another number of rows than the first, or holds an infinite
    /// number. There is no rule that makes infinity missing: it may be an overflow, or a mark for something else.
    pub fn new(columns: impl IntoIterator<Item = (String, Column)>) -> Result<Self> {
        let mut all: IndexMap<String, Column> = IndexMap::new();
        for (name, column) in columns {
            let refuse = |reason: String| Err(Error::Column { name: name.clone(), reason });
            let rows = all.first().map_or(column.len(), |(_, first)| first.len());
            if column.len() != rows {
                return refuse(format!("it has {} rows, and the first column {rows}", column.len()));
            }
            if let Column::Numbers(values) = &column
                && let Some(row) = values.iter().position(|value| value.is_infinite())
            {
                return refuse(format!("row {row} is {}; make it missing (NaN) or drop the row", values[row]));
            }
            if all.contains_key(&name) {
                return refuse("it occurs twice; give each column a name of its own".to_owned());
            }
            all.insert(name, column);
        }
        let rows = all.first().map_or(0, |(_, column)| column.len());
        Ok(Self { columns: all, rows })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns in order.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &Column)> {
        self.columns.iter().map(|(name, column)| (name.as_str(), column))
    }

    /// A column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// The rows of a range, as far as there are any.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let range = within(range, self.rows);
        let columns = self.columns.iter().map(|(name, column)| (name.clone(), column.slice(range.clone())));
        Self { columns: columns.collect(), rows: range.len() }
    }
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The probability of class 1, of labels 0 and 1.
    Binary,
    /// A number.
    Regression,
}

/// The known value of each row, with what is predicted from it. None is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    objective: Objective,
    values: Vec<f64>,
}

impl Target {
    /// Labels 0 and 1, or finite numbers.
    ///
    /// # Errors
    /// [`Error::Target`] where values are missing (NaN), which the caller must drop with their rows, are infinite, or are no
    /// labels. A trainer so never sees a row without a target.
    pub fn new(objective: Objective, values: Vec<f64>) -> Result<Self> {
        let missing = values.iter().filter(|value| value.is_nan()).count();
        if missing > 0 {
            return Err(Error::Target(format!("{missing} of {} values are missing; drop these rows", values.len())));
        }
        let (rule, bad): (_, fn(&f64) -> bool) = match objective {
            Objective::Binary => ("a binary target is 0 or 1", |value| *value != 0.0 && *value != 1.0),
            Objective::Regression => ("a target must be finite; drop the row", |value| value.is_infinite()),
        };
        match values.iter().position(bad) {
            Some(row) => Err(Error::Target(format!("row {row} is {}; {rule}", values[row]))),
            None => Ok(Self { objective, values }),
        }
    }

    /// What is predicted.
    pub fn objective(&self) -> Objective {
        self.objective
    }

    /// The value of each row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The rows of a range, as far as there are any.
    pub fn slice(&self, range: Range<usize>) -> Self {
        Self { objective: self.objective, values: self.values[within(range, self.values.len())].to_vec() }
    }
}

/// The part of a range that is within so many rows.
fn within(range: Range<usize>, rows: usize) -> Range<usize> {
    let end = range.end.min(rows);
    range.start.min(end)..end
}

/// The place of a row among all rows: by time, then by id, compared as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Its time, in any one unit.
    pub time: i64,
    /// Its id.
    pub id: String,
}

/// The columns that a model was trained on, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Schema(pub(crate) IndexMap<String, Kind>);

impl Schema {
    /// The columns of a table.
    pub(crate) fn of(table: &Table) -> Self {
        Self(table.columns().map(|(name, column)| (name.to_owned(), column.kind())).collect())
    }

    /// The columns of a table in this order. Columns that the model does not know are left out.
    pub(crate) fn select<'a>(&self, table: &'a Table) -> Result<Vec<&'a Column>> {
        let select = |(name, expected): (&String, &Kind)| {
            let column = table.column(name).ok_or_else(|| Error::MissingColumn { name: name.clone() })?;
            match column.kind() {
                found if found == *expected => Ok(column),
                found => Err(Error::ColumnKind { name: name.clone(), expected: *expected, found }),
            }
        };
        self.0.iter().map(select).collect()
    }
}

/// Refuses a target or positions of another number of rows than the table, a table without columns or rows, and rows that are
/// not in order. Equal positions are one example twice.
pub(crate) fn check_rows(table: &Table, target: &Target, positions: Option<&[Position]>) -> Result<()> {
    let rows = table.rows();
    if rows == 0 || table.columns().len() == 0 {
        return Err(Error::Rows("the table has no rows or no columns; there is nothing to learn from".into()));
    }
    if target.values().len() != rows {
        return Err(Error::Target(format!("it has {} values, and the table {rows} rows", target.values().len())));
    }
    let Some(positions) = positions else { return Ok(()) };
    if positions.len() != rows {
        return Err(Error::Rows(format!("there are {} positions, and {rows} rows", positions.len())));
    }
    match positions.windows(2).position(|pair| pair[1] < pair[0]) {
        Some(row) => {
            Err(Error::Rows(format!("row {} is before row {row}; sort them by time, then by id as text", row + 1)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(name: &str, values: &[f64]) -> (String, Column) {
        (name.to_owned(), Column::Numbers(values.to_vec()))
    }

    fn message(columns: Vec<(String, Column)>) -> String {
        Table::new(columns).unwrap_err().to_string()
    }

    #[test]
    fn a_table_refuses_columns_by_name() {
        let uneven = message(vec![numbers("a", &[1.0, 2.0]), numbers("b", &[1.0])]);
        assert_eq!(uneven, "column \"b\": it has 1 rows, and the first column 2");
        let infinite = message(vec![numbers("a", &[1.0, f64::NEG_INFINITY])]);
        assert_eq!(infinite, "column \"a\": row 1 is -inf; make it missing (NaN) or drop the row");
        let twice = message(vec![numbers("a", &[1.0]), numbers("a", &[1.0])]);
        assert!(twice.contains("\"a\"") && twice.contains("twice"), "{twice}");
        assert_eq!(Table::new([numbers("a", &[f64::NAN])]).unwrap().rows(), 1);
    }

    #[test]
    fn a_target_refuses_missing_infinite_and_other_labels() {
        let refused = |objective, values: &[f64]| Target::new(objective, values.to_vec()).unwrap_err().to_string();
        let missing = refused(Objective::Binary, &[1.0, f64::NAN, 0.0, f64::NAN]);
        assert_eq!(missing, "target: 2 of 4 values are missing; drop these rows");
        assert!(refused(Objective::Binary, &[1.0, 2.0]).contains("row 1 is 2"));
        assert!(refused(Objective::Regression, &[f64::INFINITY]).contains("row 0 is inf"));
        assert!(Target::new(Objective::Regression, vec![-2.5]).is_ok());
    }

    #[test]
    fn codes_of_categories_do_not_depend_on_the_order_of_rows() {
        let of = |rows: &[Option<&str>]| Categories::from_rows(rows);
        let (one, two) = (of(&[Some("b"), None, Some("a")]), of(&[Some("a"), Some("b"), Some("b")]));
        assert_eq!(one.values(), two.values());
        assert_eq!(one.codes(), [Some(1), None, Some(0)]);
        assert!(Categories::from_codes(vec!["a".into()], vec![Some(1)]).is_err());
        assert!(Categories::from_codes(vec!["a".into(), "a".into()], vec![]).is_err());
    }

    #[test]
    fn columns_are_found_by_name_and_kind_whatever_their_order() {
        let categories = |name: &str| (name.to_owned(), Column::Categories(Categories::from_rows(&[Some("x")])));
        let schema = Schema::of(&Table::new([numbers("a", &[1.0]), categories("c")]).unwrap());
        let other = Table::new([categories("c"), numbers("unknown", &[0.0]), numbers("a", &[2.0])]).unwrap();
        let found = schema.select(&other).unwrap();
        assert_eq!(found.iter().map(|column| column.kind()).collect::<Vec<_>>(), [Kind::Numbers, Kind::Categories]);
        let error = schema.select(&Table::new([categories("c")]).unwrap()).unwrap_err();
        assert_eq!(error, Error::MissingColumn { name: "a".into() });
        let error = schema.select(&Table::new([categories("a"), categories("c")]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("\"a\" holds categories") && error.contains("numbers"), "{error}");
    }

    #[test]
    fn a_slice_has_the_rows_that_there_are() {
        let table = Table::new([numbers("a", &[1.0, 2.0, 3.0])]).unwrap();
        assert_eq!(table.slice(1..9), Table::new([numbers("a", &[2.0, 3.0])]).unwrap());
        assert_eq!(table.slice(7..9).rows(), 0);
        let target = Target::new(Objective::Regression, vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(target.slice(0..1).values(), [1.0]);
    }

    #[test]
    fn rows_out_of_order_are_refused_and_equal_positions_are_not() {
        let table = Table::new([numbers("a", &[1.0, 2.0])]).unwrap();
        let target = Target::new(Objective::Binary, vec![0.0, 1.0]).unwrap();
        let at = |time, id: &str| Position { time, id: id.into() };
        let check = |positions: &[Position]| check_rows(&table, &target, Some(positions));
        assert!(check(&[at(1, "b"), at(1, "b")]).is_ok());
        assert!(check(&[at(1, "b"), at(2, "a")]).is_ok());
        assert!(check(&[at(1, "b"), at(1, "a")]).unwrap_err().to_string().contains("row 1 is before row 0"));
        assert!(check(&[at(1, "b")]).is_err());
        assert!(check_rows(&Table::default(), &target, None).is_err());
    }
}
