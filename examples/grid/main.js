// A grid bot on paper money: every time the price falls a step it buys a lot, and sells that lot a step higher.
//
// Its whole position is in one file under STATE_DIR, replaced by rename after every fill, so a crash between two
// lines loses nothing: started again, on this machine or another, it goes on from its cash and its open lots.

const fs = require('fs');
const path = require('path');

const file = path.join(process.env.STATE_DIR, 'grid.json');

function load(config) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error; // a state that cannot be read is no reason to begin with a new one
    return { cash: config.cash_usd, lots: [], fills: 0, profit: 0, anchor: null };
  }
}

function save(state) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(`${file}.tmp`, JSON.stringify(state));
  fs.renameSync(`${file}.tmp`, file);
}

async function ask(feed, symbol) {
  try {
    const answer = await fetch(feed, { signal: AbortSignal.timeout(3000) });
    return (await answer.json())[symbol];
  } catch (error) {
    console.log(`the feed does not answer (${error.cause?.code ?? error.name}), trying again`);
    return undefined;
  }
}

function trade(state, price, config) {
  const step = config.step_percent / 100;
  state.anchor ??= price;
  const [sold, kept] = [[], []];
  for (const lot of state.lots) (price >= lot.price * (1 + step) ? sold : kept).push(lot);
  for (const lot of sold) {
    const gain = lot.amount * (price - lot.price);
    state.cash += lot.amount * price;
    state.profit += gain;
    state.fills += 1;
    console.log(`sold ${lot.amount.toFixed(4)} at ${price.toFixed(2)}, gain ${gain.toFixed(2)} USD`);
  }
  state.lots = kept;
  let bought = false;
  if (price <= state.anchor * (1 - step) && state.cash >= config.order_usd) {
    const lot = { price, amount: config.order_usd / price };
    state.lots.push(lot);
    state.cash -= config.order_usd;
    state.fills += 1;
    bought = true;
    console.log(`bought ${lot.amount.toFixed(4)} at ${price.toFixed(2)}, ${state.lots.length} lots open`);
  }
  if (bought || price > state.anchor) state.anchor = price;
  return bought || sold.length > 0;
}

module.exports = async function main(id, config) {
  const state = load(config);
  let running = true;
  // The supervisor waits for us after TERM: time to finish what is under way.
  process.once('SIGTERM', () => {
    running = false;
    console.log('asked to stop: no new orders');
  });
  console.log(`${id}: ${state.cash.toFixed(2)} USD, ${state.lots.length} open lots, ${state.fills} fills so far`);
  while (running) {
    const price = await ask(config.feed, config.symbol);
    if (price !== undefined && trade(state, price, config)) save(state);
    if (price !== undefined) {
      const worth = state.cash + state.lots.reduce((sum, lot) => sum + lot.amount * price, 0);
      console.log(JSON.stringify({ _metric: 'worth', value: Number(worth.toFixed(2)), lots: state.lots.length }));
    }
    await new Promise((next) => setTimeout(next, config.every_ms));
  }
  save(state);
  return { fills: state.fills, profit: Number(state.profit.toFixed(2)) };
};
