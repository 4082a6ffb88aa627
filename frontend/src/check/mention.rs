//! Names that occur in a text, expanded or not.

use std::collections::HashSet;

use crate::syntax::ast::*;

/// Collects the names of values that an item mentions.
pub(crate) fn item(item: &Item, names: &mut HashSet<String>) {
    match item {
        Item::Function(function) => {
            function.args.iter().flat_map(|arg| &arg.default).for_each(|e| expr(e, names));
            block(&function.body, names);
        }
        Item::Layer(layer) => block(&layer.body, names),
        Item::Let(binding) => expr(&binding.value, names),
        Item::Loss { value, per, .. } => {
            expr(value, names);
            per.iter().for_each(|e| expr(e, names));
        }
        Item::Metric { value, .. } | Item::Output { value, .. } => expr(value, names),
        _ => {}
    }
}

/// Collects the names of values and functions that a block mentions.
pub(crate) fn block(block: &Block, names: &mut HashSet<String>) {
    for statement in &block.statements {
        match statement {
            Statement::Let(binding) => expr(&binding.value, names),
            Statement::Axes(list) | Statement::Const(list) => {
                list.iter().for_each(|binding| expr(&binding.value, names));
            }
            Statement::Param(_) => {}
        }
    }
    expr(&block.result, names);
}

fn expr(tree: &Expr, names: &mut HashSet<String>) {
    match &tree.kind {
        ExprKind::Name(name) => {
            names.insert(name.clone());
        }
        ExprKind::Number(_) | ExprKind::Axis(_) | ExprKind::Broken => {}
        ExprKind::Tuple(items) => items.iter().for_each(|item| expr(item, names)),
        ExprKind::Unary(_, value) | ExprKind::Reshape { value, .. } => expr(value, names),
        ExprKind::Binary(_, left, right) => {
            expr(left, names);
            expr(right, names);
        }
        ExprKind::If(choice) => {
            expr(&choice.condition, names);
            block(&choice.then, names);
            block(&choice.otherwise, names);
        }
        ExprKind::Call(call) => {
            names.insert(call.name.name.clone());
            call.args.iter().for_each(|arg| expr(&arg.value, names));
        }
        ExprKind::Index { value, at, .. } => {
            expr(value, names);
            expr(at, names);
        }
    }
}
